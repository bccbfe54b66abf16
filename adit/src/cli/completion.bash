# bash completion for PROGRAM; `adit completions bash PROGRAM` prints this.
FUNCTION() {
    local IFS=$'\n'
    COMPREPLY=($(adit complete bash PROGRAM -- "${COMP_WORDS[@]:0:COMP_CWORD+1}" 2>/dev/null))
    if [[ ${COMPREPLY-} == */* && -e ${COMPREPLY-} ]]; then
        compopt -o filenames
    elif [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY-} == */ ]]; then
        compopt -o nospace
    fi
} && complete -o nosort -F FUNCTION PROGRAM
