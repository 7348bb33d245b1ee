// The product of oneDNN in whatever weight layout it likes best: the limit for ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace weft::bench {

// y[rows, outputs] = x[rows, inputs] * W[outputs, inputs]^T: bf16 operands, f32 results.
class library_product {
 public:
  library_product(const std::byte* weights, std::uint32_t rows, std::uint32_t inputs, std::uint32_t outputs,
                  unsigned threads);
  ~library_product();
  void run(const std::byte* x, float* y);

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::bench
