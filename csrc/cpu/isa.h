// The instruction sets: every kernel is compiled for each of them, and one is chosen at run time.
#pragma once

#include "params.h"

namespace freqops::cpu {

// The kernels of the instruction set in use, for float or double sums.
template <class acc>
Kernels<acc> kernels();

// FREQOPS_ISA names the instruction set that a *_kernels.cpp is compiled for. Everything in it but
// the functions below has internal linkage: a function that the linker merged with that of
// another instruction set would run on a machine without it.
#define FREQOPS_DECLARE_KERNELS(isa)                                       \
  namespace isa {                                                          \
  void analysis(const Analysis<float>&, int64_t begin, int64_t end);       \
  void analysis(const Analysis<double>&, int64_t begin, int64_t end);      \
  int64_t analysis_items(const Analysis<float>&);                          \
  int64_t analysis_items(const Analysis<double>&);                         \
  void synthesis(const Synthesis<float>&, int64_t begin, int64_t end);     \
  void synthesis(const Synthesis<double>&, int64_t begin, int64_t end);    \
  int64_t synthesis_items(const Synthesis<float>&);                        \
  int64_t synthesis_items(const Synthesis<double>&);                       \
  void gating(const Gating<float>&, float*, int64_t begin, int64_t end);   \
  void gating(const Gating<double>&, double*, int64_t begin, int64_t end); \
  void pixel_sums(const PixelSums&, int64_t begin, int64_t end);           \
  void clear(const Clearing&);                                             \
  void gather(const Gather&, int64_t begin, int64_t end);                  \
  int64_t gather_items(const Gather&);                                     \
  }

FREQOPS_DECLARE_KERNELS(portable)
FREQOPS_DECLARE_KERNELS(avx2)
FREQOPS_DECLARE_KERNELS(avx512)

}  // namespace freqops::cpu
