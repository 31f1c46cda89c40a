// Byte ranges of a file, as writers give them for partial files and directed targets: text, or a ranges
// file (vss.md section 4.5). Where VSS is silent: ranges are sorted and merged when read; an empty range is dropped; the
// ranges file is little endian; a range past the end of the file ends at its end.
//
// Always true of a parsed list: sorted, disjoint, not touching, none empty; all numbers are safe integers.

export interface ByteRange {
  readonly offsetBytes: number
  readonly lengthBytes: number
}
