"""Where checkpoints of the audit log go, so that nobody here can rewrite it unseen."""
