package wazero

import (
	"encoding/hex"
	"strings"
)

// wazero takes the binary format alone. What follows is what wat2wasm makes of the text beside it.

// (module
//
//	(import "host" "mark" (func $mark))
//	(import "host" "nop" (func $nop))
//	(import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
//	(memory (export "memory") 1 1 shared)
//	(func (export "spin") call $mark (loop $l br $l))
//	(func (export "wait") call $mark
//	  (loop $l (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))) br $l))
//	(func (export "read") call $mark
//	  (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 1))
//	  (loop $l (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))) br $l))
//	(func (export "nops") (param i32)
//	  (loop $l call $nop (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))
var guest = binary(`
	0061736d01000000
	01 10 03 600000 60047f7f7f7f017f 60017f00
	02 39 03
	  04686f7374 046d61726b 0000
	  04686f7374 036e6f70 0000
	  16776173695f736e617073686f745f7072657669657731 0766645f72656164 0001
	03 05 04 00000002
	05 04 01 030101
	07 26 05 066d656d6f7279 0200 047370696e 0003 0477616974 0004 0472656164 0005 046e6f7073 0006
	0a 55 04
	  09 00 1000 0340 0c00 0b0b
	  15 00 1000 0340 41c000 4100 427f fe010200 1a 0c00 0b0b
	  22 00 1000 4100 4110 360200 4104 4101 360200 0340 4100 4100 4101 4108 1002 1a 0c00 0b0b
	  10 00 0340 1001 2000 4101 6b 2200 0d00 0b0b`)

var (
	// (module (func (export "_start")))
	tinyPlain = binary(`0061736d01000000 01 04 01 600000 03 02 01 00 07 0a 01 065f7374617274 0000 0a 04 01 02 00 0b`)
	// (module (memory (export "memory") 1) (func (export "_start")))
	tinyMemory = binary(`0061736d01000000 01 04 01 600000 03 02 01 00 05 03 01 0001
		07 13 02 066d656d6f7279 0200 065f7374617274 0000 0a 04 01 02 00 0b`)
)

// binary reads hexadecimal text. What is none is left out, so that a mistake shows when the module is compiled.
func binary(text string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil
	}
	return b
}
