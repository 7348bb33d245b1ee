#include <weft/engine/tokenizer.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "study_commands.hpp"
#include "text_file.hpp"

#include <charconv>
#include <filesystem>
#include <iostream>
#include <memory>

namespace weft::launcher::study {

namespace {

struct tokenize_options {
  std::filesystem::path model;
  std::filesystem::path file;
  bool decode = false;
};

result<std::string> input_of(const tokenize_options& options) {
  if (!options.file.empty()) return read_text_file(options.file);
  return read_all(std::cin);
}

bool is_separator(char c) {
  return c == ' ' || c == ',' || c == '[' || c == ']' || c == '\n' || c == '\r' || c == '\t';
}

// Numbers between blanks, commas or brackets.
result<std::vector<engine::token_id>> ids_of(std::string_view text) {
  std::vector<engine::token_id> ids;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (true) {
    while (at != end && is_separator(*at))
      ++at;
    if (at == end) return ids;
    engine::token_id id = 0;
    const auto [next, failure] = std::from_chars(at, end, id);
    if (failure != std::errc{} || id < 0 || (next != end && !is_separator(*next)))
      return fail(errc::invalid_argument,
                  "token " + std::to_string(ids.size()) + " is no token id; --decode reads numbers");
    ids.push_back(id);
    at = next;
  }
}

int print_ids(const engine::tokenizer& tokens, const std::string& text, const command_context& context) {
  const auto ids = tokens.encode(text);
  if (context.json) {
    print_json({{"tokens", ids}});
    return exit_done;
  }
  std::string line;
  for (const auto id : ids)
    line += (line.empty() ? "" : " ") + std::to_string(id);
  std::cout << line << '\n';
  return exit_done;
}

int print_text(const engine::tokenizer& tokens, const std::string& input, const command_context& context) {
  const auto ids = ids_of(input);
  if (!ids) return report(ids.error());
  const auto text = tokens.decode(*ids);
  if (context.json) {
    print_json({{"text", text}});
  } else {
    std::cout << text << std::flush;
  }
  return exit_done;
}

int run_tokenize(const tokenize_options& options, const command_context& context) {
  const auto tokens = engine::tokenizer::load(options.model);
  if (!tokens) return report(tokens.error());
  const auto input = input_of(options);
  if (!input) return report(input.error());
  return options.decode ? print_text(*tokens, *input, context) : print_ids(*tokens, *input, context);
}

}  // namespace

void add_tokenize_command(CLI::App& app, command_context& context) {
  auto options = std::make_shared<tokenize_options>();
  auto* command = add_command(app, "tokenize", "token ids of a text, special tokens recognised",
                              "echo 'Koreth: 4821.' | weft tokenize --model models/recall", context);
  command->add_option("--model", options->model, "model folder")->required();
  command->add_option("FILE", options->file, "text (default: standard input)");
  command->add_flag("--decode", options->decode, "from ids to the exact bytes they stand for");
  on_run(command, context, [options, &context] { return run_tokenize(*options, context); });
}

}  // namespace weft::launcher::study
