#include "isa.h"

#include <atomic>
#include <string>

#include "../stable.h"

namespace freqops::cpu {

namespace {

enum Isa { kPortable, kAvx2, kAvx512 };
constexpr const char* kNames[] = {"portable", "avx2", "avx512"};

bool supported(Isa isa) {
#ifdef FREQOPS_PORTABLE_ONLY
  return isa == kPortable;
#else
  __builtin_cpu_init();
  // No processor has AVX2 without F16C, which clang 14 and gcc 10 cannot ask for.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == kAvx512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return isa == kPortable || avx2;
#endif
}

Isa best() { return supported(kAvx512) ? kAvx512 : supported(kAvx2) ? kAvx2 : kPortable; }

std::atomic<Isa> chosen{best()};

#define FREQOPS_KERNELS(isa)                                                               \
  Kernels<acc> {                                                                           \
    isa::analysis, isa::analysis_items, isa::synthesis, isa::synthesis_items, isa::gating, \
        isa::pixel_sums, isa::clear, isa::gather, isa::gather_items                        \
  }

std::string cpu_isa() { return kNames[chosen]; }

void set_cpu_isa(const std::string& name) {
  std::string possible;
  for (const Isa isa : {kPortable, kAvx2, kAvx512}) {
    if (!supported(isa)) continue;
    if (name == kNames[isa]) {
      chosen = isa;
      return;
    }
    possible += (possible.empty() ? "\"" : ", \"") + std::string(kNames[isa]) + "\"";
  }
  STD_TORCH_CHECK(false, "set_cpu_isa: isa must be one of ", possible, " here, got \"", name, "\"");
}

}  // namespace

template <class acc>
Kernels<acc> kernels() {
#ifndef FREQOPS_PORTABLE_ONLY
  if (chosen == kAvx512) return FREQOPS_KERNELS(avx512);
  if (chosen == kAvx2) return FREQOPS_KERNELS(avx2);
#endif
  return FREQOPS_KERNELS(portable);
}

template Kernels<float> kernels<float>();
template Kernels<double> kernels<double>();

}  // namespace freqops::cpu

// No tensor argument tells the backend, so these two serve every one of them.
STABLE_TORCH_LIBRARY_IMPL(freqops, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&freqops::cpu::cpu_isa));
  m.impl("set_cpu_isa", TORCH_BOX(&freqops::cpu::set_cpu_isa));
}
