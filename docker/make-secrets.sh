#!/bin/sh
# Make the secrets that docker-compose.yml mounts, each only where it is missing.
# The folder is closed to others; the files in it are not, since the containers run as another user.
set -eu
folder="$(dirname "$0")/../secrets"
mkdir -p "$folder"
chmod 700 "$folder"
secrets="master.key audit-signing.key consent-signing.key"
secrets="$secrets database-password database-owner-password broker-password"
for name in $secrets; do
  if [ ! -e "$folder/$name" ]; then
    openssl rand -hex 32 > "$folder/$name"
    chmod 644 "$folder/$name"
    echo "made secrets/$name"
  fi
done
