module github.com/lindbridge/lindbridge/bench

go 1.26.0

replace github.com/lindbridge/lindbridge => ../

require (
	github.com/lindbridge/lindbridge v0.0.0
	github.com/tetratelabs/wazero v1.12.0
	golang.org/x/sys v0.49.0
)

require github.com/ebitengine/purego v0.11.3 // indirect
