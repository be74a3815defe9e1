// Package guestmem is the one place that turns addresses of a guest's linear memory into Go slices.
//
// Guest memory is shared and hostile: other threads of the guest write to it at any time. So a caller copies a value in
// once (the Read functions do), validates the copy and uses the copy. A slice from Bytes is for data whose content
// nothing in the host decides on: buffers that the kernel fills or drains.
package guestmem
