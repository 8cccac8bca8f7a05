#!/usr/bin/env bash
# What tests need besides Python packages, installed where this may be done: Debian or Ubuntu, as root.
# Elsewhere nothing happens, and the tests that need it are skipped with the reason.
set -euo pipefail

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# A browser for the pages of reports: chromium with its driver.
browser() {
    if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then return; fi
    if may_install; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null
    fi
}

browser || echo "tests/servers.sh: no browser could be installed; its tests are skipped" >&2
