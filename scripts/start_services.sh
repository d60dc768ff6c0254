#!/usr/bin/env bash
# Starts all services at once, under the name that users of the video processing backend know: see scripts/up.
exec "$(dirname "$(readlink -f "$0")")/up" "$@"
