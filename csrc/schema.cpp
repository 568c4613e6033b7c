// Defines the operators; each backend library then adds its kernels under its dispatch key.
#include "schemas.h"

#include "stable.h"

STABLE_TORCH_LIBRARY(freqops, m) {
  FREQOPS_DEFINE_SCHEMAS(m)
  // The CPU kernels' instruction set: "avx512", "avx2" or "portable". Chosen when the library loads;
  // set_cpu_isa is there for tests and benchmarks, which compare the three.
  m.def("cpu_isa() -> str");
  m.def("set_cpu_isa(str isa) -> ()");
}
