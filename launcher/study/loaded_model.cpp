#include <weft/launcher/study/loaded_model.hpp>

#include <utility>

namespace weft::launcher::study {

result<loaded_model> load_model(const std::filesystem::path& folder, const engine::runner_options& options) {
  auto runner = engine::runner::load(folder, options);
  if (!runner) return tl::unexpected(runner.error());
  auto tokens = engine::tokenizer::load(folder);
  if (!tokens) return tl::unexpected(tokens.error());
  auto format = engine::prompt_format::for_model(runner->config(), *tokens);
  if (!format) return tl::unexpected(format.error());
  return loaded_model{std::move(*runner), std::move(*tokens), std::move(*format)};
}

result<engine::runner_options> options_for_dtype(std::string_view dtype, unsigned threads) {
  engine::runner_options options;
  options.threads = threads;
  if (dtype == "auto") return options;
  options.cache_dtype = kernels::dtype_from_name(dtype);
  if (!options.cache_dtype)
    return fail(errc::invalid_argument, "no dtype " + std::string{dtype} + "; auto, f32, bf16 and f16 are");
  if (options.cache_dtype == kernels::dtype::f32) options.products = engine::arithmetic::f32;
  return options;
}

}  // namespace weft::launcher::study
