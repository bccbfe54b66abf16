# bash completion for PROGRAM; `adit completions bash PROGRAM` prints this.
FUNCTION() {
    local IFS=$'\n' line=$COMP_LINE word
    local -a words=()
    # bash makes several words of one at each = and :, also where no space is between them.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if ((${#words[@]})) && [[ $line != [[:space:]]* ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        line=${line#*"$word"}
    done
    COMPREPLY=($(adit complete bash PROGRAM -- "${words[@]}" 2>/dev/null))
    if [[ ${COMPREPLY-} == */* && -e ${COMPREPLY-} ]]; then
        compopt -o filenames
    fi
} && complete -o nosort -F FUNCTION PROGRAM
