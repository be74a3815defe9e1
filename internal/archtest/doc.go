// Package archtest holds the house rules that a machine can check, as tests over the source tree: which package may import
// which, where unsafe may stand, that a wait is never a sleep, that what the documents name exists.
//
// It has no code of its own beside the tests, and looks at text and syntax only: it builds and runs nothing.
package archtest
