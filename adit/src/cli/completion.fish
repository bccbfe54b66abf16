# fish completion for PROGRAM; `adit completions fish PROGRAM` prints this.
complete --command PROGRAM --no-files --keep-order \
    --arguments "(adit complete fish PROGRAM -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token) 2>/dev/null)"
