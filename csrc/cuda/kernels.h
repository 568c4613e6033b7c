// The launches that the operators are made of. float kernels serve pictures and results of at most
// 32 bits; float64 kernels take any type and live in files of their own, where spills are allowed.
#pragma once

#include "params.h"

#if defined(FREQOPS_EMULATED)
#include "cuda_on_host.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace freqops::cuda {

cudaError_t launch_analysis(const AnalysisParams<float>& params, cudaStream_t stream);
cudaError_t launch_analysis(const AnalysisParams<double>& params, cudaStream_t stream);

cudaError_t launch_synthesis(const SynthesisParams<float>& params, cudaStream_t stream);
cudaError_t launch_synthesis(const SynthesisParams<double>& params, cudaStream_t stream);

cudaError_t launch_smoothed_adjoint(const SmoothedAdjointParams<float>& params,
                                    cudaStream_t stream);
cudaError_t launch_smoothed_adjoint(const SmoothedAdjointParams<double>& params,
                                    cudaStream_t stream);

}  // namespace freqops::cuda
