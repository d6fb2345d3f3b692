"""The queues that are compared, each as its documentation has it: who sends, what is done."""
