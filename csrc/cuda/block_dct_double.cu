// The analysis machine in float64, any type in and out.
#include "analysis.cuh"
#include "kernels.h"

namespace freqops::cuda {

cudaError_t launch_analysis(const AnalysisParams<double>& params, cudaStream_t stream) {
  const auto kernel = params.chroma == Chroma::kDctnet
                          ? analysis_kernel<AnyType, AnyType, double, true>
                          : analysis_kernel<AnyType, AnyType, double, false>;
  return launch(kernel, tiles<double>(params.grid), kThreads<double>, stream, params);
}

}  // namespace freqops::cuda
