// When block_dct runs as a product of integer matrices, and how.
#pragma once

#include "device_scope.h"
#include "prepare.h"
#include "product.h"

namespace freqops::cuda {

// Whether set_dct_kernel has chosen the product, and it computes this.
bool is_product(const AnalysisParams<float>& params);
inline bool is_product(const AnalysisParams<double>&) { return false; }

// The same result from the same parameters.
void multiply(const AnalysisParams<float>& params, const DeviceScope& device);
inline void multiply(const AnalysisParams<double>&, const DeviceScope&) {}

}  // namespace freqops::cuda
