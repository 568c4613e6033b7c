// Runs a CUDA kernel's own source on the CPU, so that its tests need no GPU. It covers what the
// kernels in csrc/cuda use: one-dimensional grids, shared memory, __syncthreads, full or
// partial warp shuffles, half and bfloat16 storage. Compile a .cu file as C++ with this header in
// place of the CUDA headers; kernels are started by launch(), as in csrc/cuda/launch.cuh.
//
// Each CUDA thread is a fibre with its own stack. Fibres run one at a time, each until it waits or
// returns: in ascending order in even thread blocks, in descending order in odd ones. So a missing
// barrier lets one thread run far ahead of its neighbours, in one direction or the other, and the
// result is wrong every time instead of once a week. Shared memory is not cleared between blocks.
//
// Reported as std::runtime_error from launch():
//   a barrier that not every thread of the block reaches, or that threads reach at different lines
//   a shuffle whose mask omits the caller or names a lane that never comes
// Indices out of bounds are AddressSanitizer's part: build with -fsanitize=address; the stack switches
// tell it about the fibres, and shared arrays are static objects with red zones around them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "fibre.h"
#include "storage_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
// One thread block runs at a time in the whole process (launch() holds a mutex), so the block's
// shared memory is an ordinary static object.
#define __shared__ static

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;

namespace emulation {

constexpr unsigned kWarp = 32;

struct Index {
  unsigned x;
};

enum class State { kReady, kBarrier, kShuffle, kDone };

// A CUDA thread.
struct Thread {
  Fibre fibre;
  State state;
  unsigned index;  // threadIdx.x
  int line;        // where it waits
  unsigned mask;   // of the shuffle it waits in
  // What it hands to the shuffle: two slots, written and read in turns. A lane that is already in the
  // next shuffle overwrites the other one.
  uint64_t value[2][3];
  unsigned turn;
};

struct ThreadBlock {
  void (*body)(const void* arguments);
  const void* arguments;
  unsigned block, blocks, threads;
  std::vector<char> shared;  // dynamic
  Fibre main;
  std::vector<Thread> thread;
  Thread* current;
  std::string error;
};

inline ThreadBlock* running = nullptr;

// Leaves the current fibre; it goes on when the scheduler has made it ready again.
inline void wait(State state, int line) {
  Thread& self = *running->current;
  self.state = state;
  self.line = line;
  switch_fibre(self.fibre, running->main);
}

// Ends the thread block. The fibres are dropped where they stand: kernels own nothing.
[[noreturn]] inline void fail(const char* what) {
  running->error = what;
  switch_fibre(running->current->fibre, running->main);
  std::abort();
}

inline void fibre_main() {
  ThreadBlock& block = *running;
  block.body(block.arguments);
  block.current->state = State::kDone;
  leave_fibre(block.current->fibre, block.main);
}

// Threads of one warp that wait in a shuffle go on once every lane that any of them names is there.
inline bool release_shuffles(ThreadBlock& block, unsigned warp) {
  Thread* lane = &block.thread[warp * kWarp];
  const unsigned lanes = std::min(kWarp, block.threads - warp * kWarp);
  unsigned here = 0, named = 0;
  int line = 0;
  for (unsigned i = 0; i < lanes; ++i) {
    if (lane[i].state != State::kShuffle) continue;
    if (here != 0 && lane[i].line != line) {
      block.error = "lanes of one warp wait in shuffles at lines " + std::to_string(line) +
                    " and " + std::to_string(lane[i].line);
    }
    here |= 1u << i;
    named |= lane[i].mask;
    line = lane[i].line;
  }
  if (here == 0 || (named & ~here) != 0) return false;
  for (unsigned i = 0; i < lanes; ++i)
    if (here >> i & 1) lane[i].state = State::kReady;
  return true;
}

// A barrier opens when all threads of the block wait at it; CUDA leaves anything else undefined.
inline bool release_barrier(ThreadBlock& block) {
  int line = 0;
  unsigned waiting = 0;
  for (const Thread& thread : block.thread) {
    if (thread.state != State::kBarrier) continue;
    if (waiting != 0 && thread.line != line) return false;
    line = thread.line;
    ++waiting;
  }
  if (waiting != block.threads) return false;
  for (Thread& thread : block.thread) thread.state = State::kReady;
  return true;
}

inline std::string describe_deadlock(const ThreadBlock& block) {
  unsigned count[4] = {};
  std::string lines;
  for (const Thread& thread : block.thread) {
    ++count[int(thread.state)];
    const std::string line = std::to_string(thread.line);
    if (thread.state != State::kDone && lines.find(line) == std::string::npos) {
      lines += (lines.empty() ? "" : ", ") + line;
    }
  }
  return "deadlock: " + std::to_string(count[int(State::kBarrier)]) +
         " threads wait at a barrier, " + std::to_string(count[int(State::kShuffle)]) +
         " in a shuffle, " + std::to_string(count[int(State::kDone)]) + " have returned; lines " +
         lines;
}

inline void run_thread_block(ThreadBlock& block) {
  for (unsigned i = 0; i < block.threads; ++i) {
    Thread& thread = block.thread[i];
    thread.index = i;
    thread.turn = 0;
    thread.state = State::kReady;
    start_fibre(thread.fibre, &fibre_main);
  }
  unsigned done = 0;
  while (done < block.threads) {
    bool progress = false;
    for (unsigned k = 0; k < block.threads; ++k) {
      Thread& thread = block.thread[block.block % 2 == 0 ? k : block.threads - 1 - k];
      if (thread.state != State::kReady) continue;
      block.current = &thread;
      switch_fibre(block.main, thread.fibre);
      if (!block.error.empty()) return;
      done += thread.state == State::kDone;
      progress = true;
    }
    for (unsigned warp = 0; warp * kWarp < block.threads; ++warp)
      progress |= release_shuffles(block, warp);
    if (!block.error.empty()) return;
    if (done < block.threads && !progress && !release_barrier(block)) {
      block.error = describe_deadlock(block);
      return;
    }
  }
}

template <class Params>
struct Call {
  void (*kernel)(Params);
  const Params* params;
};

// Hands a value to the warp, and waits for the lanes of the mask to do the same. The result is the
// slot that it lies in.
template <class T>
unsigned hand_over(unsigned mask, const T& value, int line) {
  static_assert(sizeof(T) <= sizeof(Thread::value[0]));
  Thread& self = *running->current;
  if ((mask >> self.index % kWarp & 1) == 0) fail("a lane calls a shuffle that its mask omits");
  const unsigned slot = self.turn++ % 2;
  std::memset(self.value[slot], 0, sizeof self.value[slot]);
  std::memcpy(self.value[slot], &value, sizeof(T));
  self.mask = mask;
  wait(State::kShuffle, line);
  return slot;
}

// What another lane of the mask has handed over.
template <class T>
T taken_from(unsigned lane, unsigned mask, unsigned slot) {
  const unsigned self = running->current->index, thread = self - self % kWarp + lane;
  if (lane >= kWarp || thread >= running->threads || (mask >> lane & 1) == 0)
    fail("a shuffle reads a lane outside its mask");
  T result;
  std::memcpy(&result, running->thread[thread].value[slot], sizeof(T));
  return result;
}

template <class T>
T shuffle(unsigned mask, T value, unsigned source, int line) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "one register or a pair of them");
  return taken_from<T>(source, mask, hand_over(mask, value, line));
}

// mma.m16n8k32 of signed bytes, from the definition of its fragments: a lane (g, t) holds
// columns 4t ... 4t + 3 and 4t + 16 ... 4t + 19 of rows g and g + 8 of a, as many rows of column g of b,
// and columns 2t and 2t + 1 of rows g and g + 8 of the sum.
inline void multiply_add_s8(int (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                            int line) {
  struct Fragments {
    uint32_t a[4], b[2];
  } own;
  std::memcpy(own.a, a, sizeof own.a);
  std::memcpy(own.b, b, sizeof own.b);
  const unsigned slot = hand_over(~0u, own, line);
  const unsigned lane = running->current->index % kWarp, g = lane / 4, t = lane % 4;
  for (unsigned k = 0; k < 4; ++k) {
    const Fragments of_row = taken_from<Fragments>(4 * g + k, ~0u, slot);
    for (unsigned column = 0; column < 2; ++column) {
      const Fragments of_column = taken_from<Fragments>(4 * (2 * t + column) + k, ~0u, slot);
      for (unsigned half = 0; half < 2; ++half)
        for (unsigned row = 0; row < 2; ++row)
          for (unsigned byte = 0; byte < 4; ++byte)
            sum[2 * row + column] += int(int8_t(of_row.a[2 * half + row] >> 8 * byte)) *
                                     int(int8_t(of_column.b[half] >> 8 * byte));
    }
  }
}

}  // namespace emulation

#define threadIdx (emulation::Index{emulation::running->current->index})
#define blockIdx (emulation::Index{emulation::running->block})
#define blockDim (emulation::Index{emulation::running->threads})
#define gridDim (emulation::Index{emulation::running->blocks})

#define __syncthreads() emulation::wait(emulation::State::kBarrier, __LINE__)
#define __syncwarp() emulation::hand_over(~0u, 0, __LINE__)
#define __shfl_sync(mask, value, source) emulation::shuffle(mask, value, source, __LINE__)
#define __shfl_xor_sync(mask, value, bits) \
  emulation::shuffle(mask, value, (threadIdx.x % emulation::kWarp) ^ (bits), __LINE__)
// Lanes without a source keep their own value.
#define __shfl_up_sync(mask, value, by)                                                    \
  emulation::shuffle(                                                                      \
      mask, value,                                                                         \
      threadIdx.x % emulation::kWarp - (threadIdx.x % emulation::kWarp < (by) ? 0 : (by)), \
      __LINE__)
#define __shfl_down_sync(mask, value, by)                                                       \
  emulation::shuffle(mask, value,                                                               \
                     threadIdx.x % emulation::kWarp +                                           \
                         (threadIdx.x % emulation::kWarp + (by) < emulation::kWarp ? (by) : 0), \
                     __LINE__)

inline char* dynamic_shared() { return emulation::running->shared.data(); }

template <class Params>
cudaError_t launch(void (*kernel)(Params), unsigned blocks, unsigned threads, cudaStream_t,
                   const Params& params, unsigned shared = 0) {
  if (blocks == 0 || blocks > 0x7fffffffu || threads == 0 || threads > 1024)
    throw std::runtime_error("launch of " + std::to_string(blocks) + " blocks of " +
                             std::to_string(threads) + " threads");
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  const emulation::Call<Params> call{kernel, &params};
  emulation::ThreadBlock block{};
  block.body = [](const void* arguments) {
    const auto& c = *static_cast<const emulation::Call<Params>*>(arguments);
    c.kernel(*c.params);
  };
  block.arguments = &call;
  block.blocks = blocks;
  block.threads = threads;
  block.thread.resize(threads);
  block.shared.resize(shared);
  emulation::running = &block;
  for (unsigned b = 0; b < blocks && block.error.empty(); ++b) {
    block.block = b;
    emulation::run_thread_block(block);
  }
  emulation::running = nullptr;
  if (!block.error.empty()) {
    throw std::runtime_error("cuda_on_host: " + block.error + " (thread block " +
                             std::to_string(block.block) + ")");
  }
  return cudaSuccess;
}

// sm_120, with few multiprocessors, so that thread blocks which stay take several turns.
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrComputeCapabilityMajor,
};

inline cudaError_t device_attribute(int* value, cudaDeviceAttr attribute) {
  constexpr int kValues[] = {2, 99 * 1024, 12};
  *value = kValues[attribute];
  return cudaSuccess;
}

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
