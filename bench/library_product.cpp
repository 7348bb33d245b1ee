#include "library_product.hpp"

#include <dnnl.hpp>
#include <omp.h>

namespace weft::bench {

using dnnl::memory;

struct library_product::state {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  memory::desc x, y;
  dnnl::matmul product;
  memory weights;
};

library_product::library_product(const std::byte* weights, std::uint32_t rows, std::uint32_t inputs,
                                 std::uint32_t outputs, unsigned threads)
    : state_(std::make_unique<state>()) {
  omp_set_num_threads(static_cast<int>(threads));
  state& s = *state_;
  const auto bf16 = memory::data_type::bf16;
  const memory::dims weight_dims = {inputs, outputs};
  s.x = memory::desc({rows, inputs}, bf16, memory::format_tag::ab);
  s.y = memory::desc({rows, outputs}, memory::data_type::f32, memory::format_tag::ab);
  const memory::desc any_weights(weight_dims, bf16, memory::format_tag::any);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(s.x, any_weights, s.y), s.engine);
  s.product = dnnl::matmul(description);
  s.weights = memory(description.weights_desc(), s.engine);
  memory plain(memory::desc(weight_dims, bf16, memory::format_tag::ba), s.engine,
               const_cast<std::byte*>(weights));
  dnnl::reorder(plain, s.weights).execute(s.stream, plain, s.weights);
  s.stream.wait();
}

library_product::~library_product() = default;

void library_product::run(const std::byte* x, float* y) {
  state& s = *state_;
  memory input(s.x, s.engine, const_cast<std::byte*>(x));
  memory output(s.y, s.engine, y);
  s.product.execute(s.stream, {{DNNL_ARG_SRC, input}, {DNNL_ARG_WEIGHTS, s.weights}, {DNNL_ARG_DST, output}});
  s.stream.wait();
}

}  // namespace weft::bench
