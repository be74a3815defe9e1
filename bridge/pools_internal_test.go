//go:build !race && !shimdebug

package bridge

// poolsKeep: what is put into a sync.Pool is there for the next Get.
const poolsKeep = true
