// A mount namespace without the mounts of other tests: a copy of theirs would keep their daemons alive after
// they were unmounted, as long as the namespace lasts.
//
// Always true: what is mounted outside stays there; what is mounted inside goes with the namespace.

const SCRIPT = `keep=
while [ "$1" != -- ]; do keep="$keep $1"; shift; done
shift
awk '$5 ~ "/umbra-(test|loop)-" { print $5 }' /proc/self/mountinfo | tac | while read -r at; do
  case "$keep " in *" $at "*) ;; *) timeout 10 umount -l -i -c "$at" || true ;; esac
done
exec "$@"`

/**
 * Words before a program's, that run it in such a namespace; they need root.
 * @param kept mount points of the test's own
 */
export function withOwnMounts(kept: readonly string[] = []): string[] {
  return ['unshare', '-m', 'sh', '-c', SCRIPT, 'sh', ...kept, '--']
}
