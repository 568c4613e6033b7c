// Fibres: stacks that take turns on one operating-system thread. On x86-64 a switch is a dozen
// instructions (System V ABI: the callee keeps rbx, rbp, r12 to r15); elsewhere it is ucontext's,
// which enters the kernel each time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

// A kernel's frame is a few hundred bytes; AddressSanitizer pads every variable and unoptimised
// code keeps every temporary.
constexpr std::size_t kStack = 256 * 1024;

struct Fibre {
  std::unique_ptr<char[]> stack;  // null: the stack that launch() itself runs on
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  std::size_t size = 0;
#endif
};

#if defined(__x86_64__)
extern "C" void freqops_switch_stack(void** save, void* to);
asm(R"(
.text
.weak freqops_switch_stack
.hidden freqops_switch_stack
.type freqops_switch_stack, @function
freqops_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size freqops_switch_stack, .-freqops_switch_stack
)");
#endif

inline void (*fibre_entry)() = nullptr;

// The first function on a new stack.
inline void enter_fibre() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  fibre_entry();
  std::abort();  // fibre_entry leaves by leave_fibre
}

inline void switch_stack(Fibre& from, Fibre& to) {
#if defined(__x86_64__)
  freqops_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
}

// Saves the running fibre in `from` and goes on with `to`.
inline void switch_fibre(Fibre& from, Fibre& to) {
#if defined(__SANITIZE_ADDRESS__)
  if (from.stack == nullptr && from.bottom == nullptr) {
    pthread_attr_t attributes;
    void* bottom;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &bottom, &from.size);
    pthread_attr_destroy(&attributes);
    from.bottom = bottom;
  }
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
  switch_stack(from, to);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// The same for the last time: `from` will not run again until start_fibre.
inline void leave_fibre(Fibre& from, Fibre& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, to.bottom, to.size);
#endif
  switch_stack(from, to);
}

// Prepares `fibre` to begin with entry() at its next switch_fibre.
inline void start_fibre(Fibre& fibre, void (*entry)()) {
  fibre_entry = entry;
  if (fibre.stack == nullptr) fibre.stack.reset(new char[kStack]);
#if defined(__SANITIZE_ADDRESS__)
  fibre.bottom = fibre.stack.get();
  fibre.size = kStack;
  __asan_unpoison_memory_region(fibre.stack.get(), kStack);  // frames that were dropped by fail()
#endif
#if defined(__x86_64__)
  // enter_fibre finds the stack as after a call: 8 below a multiple of 16. Six registers follow.
  const auto top =
      (reinterpret_cast<std::uintptr_t>(fibre.stack.get()) + kStack) & ~std::uintptr_t(15);
  void** slot = reinterpret_cast<void**>(top) - 2;
  slot[1] = nullptr;
  slot[0] = reinterpret_cast<void*>(&enter_fibre);
  fibre.stack_pointer = slot - 6;
#else
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = fibre.stack.get();
  fibre.context.uc_stack.ss_size = kStack;
  fibre.context.uc_link = nullptr;
  makecontext(&fibre.context, &enter_fibre, 0);
#endif
}

}  // namespace emulation
