#!/bin/sh
# Finds a Chromium for the browser tests, or installs Debian's, with a font that has the emoji of the page's examples, for
# pictures; fails loudly where neither is possible. The one that has no windows is quicker, and comes first.
set -e
found() { command -v chromium-headless-shell || command -v chromium; }
found >/dev/null && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The browser tests need Chromium; install it so that the command 'chromium' is found." >&2
    exit 1
fi
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
$as_root apt-get update -qq
for package in chromium-headless-shell chromium; do
    $as_root apt-get install -y -qq "$package" fonts-noto-color-emoji >/dev/null && break
done
found >/dev/null || { echo "Chromium could not be installed." >&2; exit 1; }
