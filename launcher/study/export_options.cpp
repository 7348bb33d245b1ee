#include "export_options.hpp"

#include <nlohmann/json.hpp>

#include <iostream>

namespace weft::launcher::study {

void add_export_options(CLI::App& command, export_options& options) {
  command.add_option("--model", options.model, "model folder")->required();
  command.add_option("--in", options.in, "input (.json)")->required();
  command.add_option("--out", options.out, "output (.safetensors)")->required();
  command.add_option("--dtype", options.dtype, "cache and arithmetic: f32, auto (as the weights), bf16, f16")
      ->capture_default_str();
  command.add_option("--threads", options.threads, "0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

int report_written(const result<void>& done, const std::filesystem::path& out,
                   const command_context& context) {
  if (!done) return report(done.error());
  if (context.json)
    print_json({{"out", out.string()}});
  else
    std::cout << out.string() << '\n';
  return exit_done;
}

}  // namespace weft::launcher::study
