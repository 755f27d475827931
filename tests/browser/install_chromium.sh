#!/bin/sh
# Finds a Chromium for the browser tests, or installs Debian's, with a font that has the emoji of the page's examples, for
# pictures; fails loudly where neither is possible.
set -e
command -v chromium >/dev/null 2>&1 && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The browser tests need Chromium; install it so that the command 'chromium' is found." >&2
    exit 1
fi
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
$as_root apt-get update -qq
$as_root apt-get install -y -qq chromium fonts-noto-color-emoji >/dev/null
command -v chromium >/dev/null 2>&1 || { echo "Chromium was installed but is not found." >&2; exit 1; }
