// Answers in this process alone, without a cluster: what the cluster's answers are held against.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/prompt_format.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/tokenizer.hpp>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace weft::launcher {

class local_model {
 public:
  static result<local_model> load(const std::filesystem::path& model_folder);

  // Greedy, every document computed here, each in its own segment.
  result<std::string> answer(const std::vector<std::string>& documents, const std::string& question,
                             std::uint32_t max_tokens);

 private:
  local_model(engine::runner model, engine::tokenizer tokens, engine::prompt_format format);
  result<std::string> generate(engine::kv_cache cache, std::int32_t next_position,
                               std::span<const float> logits, std::uint32_t max_tokens);

  engine::runner model_;
  engine::tokenizer tokens_;
  engine::prompt_format format_;
};

}  // namespace weft::launcher
