#compdef PROGRAM
# zsh completion for PROGRAM; `adit completions zsh PROGRAM` prints this.
FUNCTION() {
    local line
    local -a lines words_found directories
    lines=("${(@f)$(adit complete zsh PROGRAM -- "${(@Q)words[1,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        if [[ $line == */ ]]; then
            directories+=("${line%/}")
        else
            words_found+=("$line")
        fi
    done
    (( $#words_found )) && _describe -V PROGRAM words_found
    (( $#directories )) && _describe -V PROGRAM directories -S / -r '/ '
    (( $#lines ))
}
if [[ $funcstack[1] == FUNCTION ]]; then
    FUNCTION "$@"
else
    compdef FUNCTION PROGRAM
fi
