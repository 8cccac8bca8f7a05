#!/usr/bin/env bash
# Gets what tests talk to besides Python packages, and does nothing where it is: `make test` calls it before the tests.
# What cannot be had here is said, and the tests that need it are skipped with the reason; nothing is started.
set -euo pipefail
cd "$(dirname "$0")/.."

without() {
  echo "tests/servers.sh: $1; tests that need it are skipped" >&2
}

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Debian's packages, by lists of today; nothing without root.
lists=
debian() {
  may_install || return 1
  [ -n "$lists" ] || apt-get update -qq || true
  lists=known
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# PostgreSQL with PostGIS, for the STAC API.
postgresql() {
  local version
  compgen -G '/usr/share/postgresql/*/extension/postgis.control' >/dev/null && return
  debian postgresql-common || { without "no PostgreSQL with PostGIS here, and no right to install it"; return; }
  # Tests have a cluster of their own: none is made, and none started, by the packages.
  sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  version=$(apt-cache depends postgresql | sed -nE 's/^ *Depends: postgresql-([0-9]+)$/\1/p' | head -n 1)
  debian "postgresql-$version" "postgresql-$version-postgis-3" ||
    without "PostgreSQL $version with PostGIS could not be installed"
}

# The STAC API itself, stac-fastapi-pgstac with the Transaction extension, in .venv-servers.
stac_api() {
  local venv=.venv-servers
  [ "$venv/.installed" -nt tests/servers.txt ] && return
  "${PYTHON:-python3}" -m venv "$venv" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/servers.txt &&
    touch "$venv/.installed" || without "stac-fastapi-pgstac could not be installed into $venv"
}

# A browser for the pages of reports: chromium with its driver.
browser() {
  command -v chromium >/dev/null && command -v chromedriver >/dev/null && return
  debian chromium chromium-driver fonts-dejavu-core || without "no chromium here, and no right to install it"
}

stac_api &
postgresql
browser
wait
