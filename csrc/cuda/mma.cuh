// Matrix products of a warp on tensor cores, or by their definition under the emulation of
// tests/emulation.
#pragma once

#include <cstdint>

#include "launch.cuh"

namespace freqops::cuda {

// sum += a b in exact 32-bit integers, of 16 x 32 signed bytes a and 32 x 8 signed bytes b. Of a lane
// with g = lane / 4 and t = lane % 4, four bytes to a register, the lowest first:
//
//   a[0]  row g,      columns 4t ... 4t + 3        b[0]  rows 4t ... 4t + 3,        column g
//   a[1]  row g + 8,  the same                     b[1]  rows 4t + 16 ... 4t + 19,  column g
//   a[2]  row g,      columns 4t + 16 ... 4t + 19
//   a[3]  row g + 8,  the same
//
//   sum[0], sum[1]  row g,      columns 2t, 2t + 1
//   sum[2], sum[3]  row g + 8,  the same
//
// PTX ISA, "Matrix fragments for mma.m16n8k32".
__device__ __forceinline__ void multiply_add(int (&sum)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
#if defined(FREQOPS_EMULATED)
  emulation::multiply_add_s8(sum, a, b, __LINE__);
#elif !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  // volatile: it stays where all lanes of the warp are.
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();  // product_fits does not let it run
#endif
}

}  // namespace freqops::cuda
