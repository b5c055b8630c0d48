# shellcheck shell=bash
# What the launch scripts share: flags, quoting, --dry_run.

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

say() { printf '%s\n' "$*" >&2; }

# quoted WORD...: the words as one line that bash reads back as the same words.
quoted() {
  local line
  printf -v line '%q ' "$@"
  printf '%s' "${line% }"
}

# run WORD...: runs a command, or prints it with --dry_run.
run() {
  # shellcheck disable=SC2154 # each script has the flag
  if [[ $dry_run == true ]]; then
    printf '%s\n' "$(quoted "$@")"
  else
    "$@"
  fi
}

# parse_flags "NAMES" WORD...: sets a variable for each --NAME=VALUE, true for a bare --NAME.
# What comes after -- is left in the array `rest`. NAMES are the flags that the script knows.
parse_flags() {
  local known=" $1 " flag value # no name that a script has a flag of
  shift
  rest=()
  while (($#)); do
    case $1 in
      --)
        shift
        rest=("$@")
        return
        ;;
      --*=*) flag=${1%%=*} value=${1#*=} ;;
      --*) flag=$1 value=true ;;
      *) die "'$1' is no flag; flags look like --name=value, a command follows --" ;;
    esac
    flag=${flag#--}
    [[ $known == *" $flag "* ]] || die "there is no flag --$flag (known: ${known//  / })"
    printf -v "$flag" '%s' "$value"
    shift
  done
}

# need NAME...: refuses to go on where one of these flags is empty.
need() {
  local flag
  for flag in "$@"; do
    [[ -n ${!flag} && ${!flag} != true ]] || die "--$flag=... is missing"
  done
}

# need_plain NAME...: flags that become names in the cloud, and parts of its addresses.
need_plain() {
  local flag
  need "$@"
  for flag in "$@"; do
    [[ ${!flag} =~ ^[a-z]([a-z0-9-]*[a-z0-9])?$ ]] ||
      die "--$flag=${!flag}: a small letter first, then small letters, digits and hyphens only"
  done
}

# need_seconds NAME...: flags that must be whole numbers.
need_seconds() {
  local flag
  for flag in "$@"; do
    [[ ${!flag} =~ ^[0-9]+$ ]] || die "--$flag=${!flag}: a whole number of seconds"
  done
}
