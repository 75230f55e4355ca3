#!/bin/bash
# Layout rules, checked on the sources as text: who may include whom, banned functions, line length,
# file heads, who may use which library. Prints each breach; exit 1 if there is one.
cd "$(dirname "$0")/.." || exit 2
bad=0
breach() {
    echo "$*"
    bad=1
}

# daemon -> pipeline -> { dicom | gpu | registration | db } -> base; nobody includes tests/.
declare -A allowed=(
    [base]="base"
    [dicom]="base dicom dcmtk"
    [gpu]="base gpu"
    [registration]="base registration"
    [db]="base db"
    [pipeline]="base dicom gpu registration db pipeline"
    [daemon]="base dicom gpu registration db pipeline daemon"
)
for module in base dicom gpu registration db pipeline daemon; do
    while IFS=: read -r file line include; do
        target=$(sed -E 's/.*"([a-z]+)\/.*/\1/' <<<"$include")
        case " ${allowed[$module]} " in
        *" $target "*) ;;
        *) breach "$file:$line: $module/ may not include $target/" ;;
        esac
    done < <(grep -rnE '^#include "[a-z]+/' "$module" --include='*.[ch]' --include='*.cc' --include='*.hh')
done

# Private headers (x_int.h) stay in their folder.
while IFS=: read -r file line include; do
    target=$(sed -E 's/.*"([a-z]+)\/.*/\1/' <<<"$include")
    [ "${file%%/*}" = "$target" ] || breach "$file:$line: private header of $target/"
done < <(grep -rnE '^#include "[a-z]+/[a-z_]+_int\.h"' base dicom gpu registration db pipeline daemon)

# One owner per library.
owner() { # owner PATTERN FOLDER...
    local pattern=$1 folders=" ${*:2} "
    while IFS=: read -r file line _; do
        case "$folders" in
        *" ${file%%/*} "*) ;;
        *) breach "$file:$line: $pattern belongs to$folders" ;;
        esac
    done < <(grep -rnE "^#include <($pattern)" base dicom gpu registration db pipeline daemon)
}
owner 'sqlite3' db
owner 'yaml' daemon
owner 'uv\.h' daemon
owner 'oneapi/|dnnl' gpu
owner 'cuda|cudnn' gpu
owner 'openssl/' base
owner 'nifti' pipeline
owner 'png' pipeline
owner 'gsl/' gpu

sources=$(git ls-files -co --exclude-standard '*.c' '*.cc' '*.h' '*.hh')
for file in $sources; do
    awk -v f="$file" 'length($0) > 100 { print f ":" NR ": longer than 100 columns"; bad = 1 }
                      END { exit bad }' "$file" || bad=1
    head -c 2 "$file" | grep -qE '^(/\*|//)' || breach "$file:1: no file-head comment"
done
# shellcheck disable=SC2046
grep -nE '\b(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|strtok|gmtime|localtime|tmpnam|system|popen)\(' \
    $(grep -v '^tests/' <<<"$sources") && breach "banned function"
# shellcheck disable=SC2086
grep -nE -- '-ffast-math|-Ofast' Makefile $sources && breach "fast math"
# Functions of at most 80 lines: from a line that begins a body to the closing brace in column 1.
for file in $(grep -v '^tests/' <<<"$sources"); do
    awk -v f="$file" '/^\{/ { start = NR } /^\}/ && start { if (NR - start > 80)
        { print f ":" start ": function of " NR - start " lines"; bad = 1 } start = 0 }
        END { exit bad }' "$file" || bad=1
done
exit $bad
