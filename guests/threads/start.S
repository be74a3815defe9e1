# wasi_thread_start(tid, launch): where a spawned thread begins. Each thread has its own instance, whose stack pointer
# starts where the first thread's did: it must be set before any C code runs.
	.globaltype	__stack_pointer, i32
	.functype	rt_thread_main (i32, i32) -> ()
	.section	.text.wasi_thread_start,"",@
	.globl	wasi_thread_start
	.type	wasi_thread_start,@function
wasi_thread_start:
	.functype	wasi_thread_start (i32, i32) -> ()
	.export_name	wasi_thread_start, wasi_thread_start
	local.get	1
	i32.load	0
	global.set	__stack_pointer
	local.get	0
	local.get	1
	call	rt_thread_main
	end_function
