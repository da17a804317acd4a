#!/usr/bin/env bash
# Runs a command again until it is done, on machines that are taken away.
#
#   scripts/run_until_done.sh [--pause=5] [--quick=60] [--failures=3] -- COMMAND ...
#
# Status 0 (done) and 2 (wrong usage) end it. 75 (stopped after saving) and death by a
# signal (SIGKILL, out of memory) are tried again after --pause seconds, unless that has
# happened --failures times in a row within --quick seconds of the start (SIGABRT, with
# which JAX ends a process whose others do not come: within 600); any other status
# (70 an unforeseen error, 74 a write that failed) is tried again --failures times in a
# row. SIGTERM, SIGINT or SIGHUP to this script goes
# to the command as SIGTERM, and the script ends with it.
#
# Exit status: that of the last run.
set -uo pipefail

pause=5 quick=60 failures=3
while [ $# -gt 0 ]; do
  case $1 in
    --pause=*) pause=${1#*=} ;;
    --quick=*) quick=${1#*=} ;;
    --failures=*) failures=${1#*=} ;;
    --) shift && break ;;
    *) echo "run_until_done: there is no option $1; write -- before the command." >&2
      exit 2 ;;
  esac
  shift
done
for number in "$pause" "$quick" "$failures"; do
  case $number in
    '' | *[!0-9]*)
      echo "run_until_done: '$number' is no number of seconds or failures." >&2
      exit 2 ;;
  esac
done
if [ $# -eq 0 ]; then
  echo "run_until_done: give the command after --." >&2
  exit 2
fi

child='' stopping=0
stop() {
  stopping=$((stopping + 1))
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT HUP

row=0
while true; do
  begun=$SECONDS
  "$@" &
  child=$!
  [ "$stopping" -eq 0 ] || kill -TERM "$child" 2>/dev/null
  before='' status=127
  while [ "$before" != "$stopping" ]; do # a trap ends wait before the command ends
    before=$stopping
    wait "$child"
    ended=$?
    [ "$ended" -eq 127 ] || status=$ended
  done
  child=''
  lasted=$((SECONDS - begun))
  if [ "$status" -eq 0 ] || [ "$status" -eq 2 ] || [ "$stopping" -gt 0 ]
  then
    exit "$status"
  fi
  enough=$quick
  if [ "$status" -eq 134 ] && [ "$enough" -lt 600 ]; then
    enough=600
  fi
  if { [ "$status" -eq 75 ] || [ "$status" -gt 128 ]; } && [ "$lasted" -ge "$enough" ]
  then
    row=0
  else
    row=$((row + 1))
  fi
  if [ "$row" -ge "$failures" ]; then
    echo "run_until_done: status $status, $row failures in a row; giving up." >&2
    exit "$status"
  fi
  echo "run_until_done: status $status after $lasted s; again in $pause s." >&2
  sleep "$pause" &
  child=$!
  wait "$child"
  child=''
  [ "$stopping" -eq 0 ] || exit 75
done
