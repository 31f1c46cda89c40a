// How stock tools bring component files back: jq turns a backup's index into a shell script of cp, dd, ln,
// mknod, chown, chmod, setfattr and touch, which is run at once.
//
// Always true: commands are run one after another in the repository's folder, the full backup's first, as root where
// owners matter; files appear below the folder `restored`, under their default paths; a failing line ends
// a command. Names that are not UTF-8 jq cannot write: the script decodes them from base64. Only where such a path
// has an element that ends in a newline, which sh would cut off, it ends and leaves the backup to `umbra restore`.

/** One backup on the way: of its index the lines of these components alone. */
export interface FileStep {
  readonly backupId: string
  /** Name of its index of files. */
  readonly index: string
  /** As componentKey() gives them; null: all. */
  readonly components: readonly string[] | null
}

const PROGRAM = `
def decoded: "\\"$(printf %s " + (. | @sh) + " | base64 -d)\\"";
def place($text; $bytes): if $bytes then "restored" + ($bytes | decoded) else "restored" + $text | @sh end;
def to: place(.path; .pathBytes);
def first: place(.hardLinkOf; .hardLinkOfBytes);
def target: if .linkTargetBytes then (.linkTargetBytes | decoded) else .linkTarget | @sh end;
def cut: [.pathBytes, .hardLinkOfBytes, .linkTargetBytes | select(.) | @base64d | endswith("\\n") or contains("\\n/")] | any;
def refused: "echo 'A name that ends in a newline and is not UTF-8: use umbra restore' >&2; false";
def octal: [.mode / 512, .mode / 64, .mode / 8, .mode] | map(floor % 8 | tostring) | join("");
def time: if (.mtimeNs | length) > 9 then .mtimeNs[:-9] + "." + .mtimeNs[-9:] else "0" end;
def xattrs: (.xattrs // {} | to_entries | map("setfattr -h -n " + (.key | @sh) + " -v 0s" + .value + " ")) as $all
  | to as $to | $all | map(. + $to + "; ") | join("");
def attributes: "chown -h \\(.uid):\\(.gid) \\(to); "
  + (if .kind == "symlink" then "" else "chmod \\(octal) \\(to); " end)
  + xattrs + "touch -h -m -d @\\(time) \\(to)";
def parent: "mkdir -p "
  + (if .pathBytes then "\\"$(dirname -- \\(to))\\"" else "restored" + .path | sub("/[^/]*$"; "") | @sh end) + "; ";
def stored: ($from + .stored.file | @sh);
def ranges: . as $file | reduce .ranges[] as $r ({at: 0, text: ""};
    .text += "dd if=\\($file | stored) of=\\($file | to) bs=1M iflag=skip_bytes,count_bytes oflag=seek_bytes"
      + " skip=\\(.at) seek=\\($r.offsetBytes) count=\\($r.lengthBytes) conv=notrunc status=none; "
    | .at += $r.lengthBytes) | .text;
def file:
  if cut then refused
  elif .kind == "directory" then "[ -d \\(to) ] || rm -f \\(to); mkdir -p \\(to)"
  elif .kind == "symlink" then parent + "rm -fd \\(to); ln -s -- \\(target) \\(to); " + attributes
  elif .kind == "fifo" then parent + "rm -fd \\(to); mkfifo \\(to); " + attributes
  elif .kind == "device" then parent + "rm -fd \\(to); mknod \\(to) "
    + (if (.mode / 4096 | floor) == 6 then "b" else "c" end)
    + " \\(.rdev / 256 | floor % 4096) \\(.rdev % 256 + ((.rdev / 1048576 | floor) * 256)); " + attributes
  elif .hardLinkOf then parent + "rm -fd \\(to); ln \\(first) \\(to)"
  elif .ranges and .stored then
    (if .how == "partial" then parent else "[ -f \\(to) ]; " end)
    + "truncate -s \\(.sizeBytes) \\(to); " + ranges + attributes
  elif .stored then parent + "rm -fd \\(to); cp --sparse=always \\(stored) \\(to); " + attributes
  else empty end;
map(select($only == null or (.writer + " " + .logicalPath + "/" + .name | IN($only[]))))
| (map(select(.kind == "deleted")) | sort_by(.path) | reverse[]
    | if cut then refused else "rm -fd \\(to) 2> /dev/null || true" end),
  (.[] | select(.kind != "deleted") | file),
  (map(select(.kind == "file" and .generation != null))
    | group_by([.ino, .generation, .mode, .uid, .gid, .mtimeNs, .sizeBytes])[]
    | select(length > 1 and any(.[]; .ranges)) | .[0] as $first | .[1:][]
    | "[ \\($first | to) -ef \\(to) ] || ln -f \\($first | to) \\(to)"),
  (map(select(.kind == "directory")) | sort_by(.path) | reverse[] | attributes)
`

/** What a line of an index says of its component. */
export function componentKey(
  writer: string,
  { logicalPath, name }: { logicalPath: string; name: string },
): string {
  return `${writer} ${logicalPath}/${name}`
}

/** A command for sh, to be run in the repository's folder. */
export function fileCommand({ backupId, index, components }: FileStep): string {
  const program = PROGRAM.trim().replace(/\s*\n\s*/g, ' ')
  const only = quoted(JSON.stringify(components))
  return `jq -rs --arg from 'backups/${backupId}/' --argjson only ${only} ${quoted(program)} 'backups/${backupId}/${index}' | sh -e`
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
