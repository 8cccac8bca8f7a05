#!/usr/bin/env bash
# Gets the servers that tests talk to, and does nothing where they are: `make test` calls it before the tests.
# What cannot be had here is said, and the tests that need it are skipped with the reason; nothing is started.
set -euo pipefail
cd "$(dirname "$0")/.."

without() {
  echo "tests/servers.sh: $1; tests that need it are skipped" >&2
}

# Debian's packages; nothing without root.
debian() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# A STAC API with the Transaction extension: PostgreSQL with PostGIS, and stac-fastapi-pgstac in .venv-servers.
stac_api() {
  stac_api_python &
  postgresql
  wait
}

postgresql() {
  local version
  compgen -G '/usr/share/postgresql/*/extension/postgis.control' >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq || true
  fi
  debian postgresql-common || { without "no PostgreSQL with PostGIS here, and no right to install it"; return; }
  # Tests have a cluster of their own: none is made, and none started, by the packages.
  sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  version=$(apt-cache depends postgresql | sed -nE 's/^ *Depends: postgresql-([0-9]+)$/\1/p' | head -n 1)
  debian "postgresql-$version" "postgresql-$version-postgis-3" ||
    without "PostgreSQL $version with PostGIS could not be installed"
}

stac_api_python() {
  local venv=.venv-servers
  [ "$venv/.installed" -nt tests/servers.txt ] && return
  "${PYTHON:-python3}" -m venv "$venv" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement tests/servers.txt &&
    touch "$venv/.installed" || without "stac-fastapi-pgstac could not be installed into $venv"
}

stac_api
