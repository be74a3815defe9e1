//go:build !shimdebug

package bridge

// crossing runs at each crossing of the C boundary. See the build tag shimdebug.
func crossing() {}
