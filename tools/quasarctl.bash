# SPDX-License-Identifier: LGPL-2.1-or-later
# Completion of quasarctl for bash: commands as the program lists them, options as each help tells them, domains by name.
_quasarctl()
{
    local word=${COMP_WORDS[COMP_CWORD]} i at words=() list
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -c | --connect) ((i++)) ;;
        -*) ;;
        *) words+=("${COMP_WORDS[i]}") ;;
        esac
    done
    at=${#words[@]}
    if [[ $word == -* ]]; then
        list=$(quasarctl "${words[@]:0:2}" --help 2>/dev/null | grep -oE -- '--[a-z-]+')
    elif ((at == 0)); then
        list=$(quasarctl --commands 2>/dev/null | cut -d' ' -f1 | sort -u)
    elif ((at == 1)); then
        list=$(quasarctl --commands 2>/dev/null | sed -n "s/^${words[0]} \([a-z]*\).*/\1/p")
    elif ((at == 2)) && quasarctl --commands 2>/dev/null | grep -q "^${words[0]} ${words[1]} .*DOMAIN"; then
        list=$(virsh -q -c quasar:///system list --all --name 2>/dev/null)
    fi
    mapfile -t COMPREPLY < <(compgen -W "$list" -- "$word")
}
complete -F _quasarctl quasarctl
