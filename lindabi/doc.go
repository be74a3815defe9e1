// Package lindabi is the guest side of the Lind ABI: the functions that programs import from the module "lind", carried out
// as 3i calls. The facts are those of the lind-wasm sources; guests/lind/lind.h has the same for C programs.
//
// What a program that is linked for Lind takes from WASI under the name of "lind", its arguments, environment and random
// numbers, is package wasip1's.
package lindabi
