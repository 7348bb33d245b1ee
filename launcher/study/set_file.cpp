#include <weft/launcher/study/set_file.hpp>

#include <nlohmann/json.hpp>

#include "text_file.hpp"

#include <sstream>

namespace weft::launcher::study {

namespace {

using nlohmann::json;

set_context context_of(const json& line, std::size_t number) {
  set_context context;
  context.id = line.value("id", std::to_string(number));
  context.task = line.value("task", std::string{"set"});
  line.at("documents").get_to(context.documents);
  for (const auto& asked : line.at("questions")) {
    set_question question{asked.at("question").get<std::string>(),
                          asked.at("answers").get<std::vector<std::string>>()};
    if (question.answers.empty()) throw std::invalid_argument("a question has no answers");
    context.questions.push_back(std::move(question));
  }
  return context;
}

}  // namespace

result<std::vector<set_context>> read_set_file(const std::filesystem::path& file) {
  const auto text = read_text_file(file);
  if (!text) return tl::unexpected(text.error());
  std::vector<set_context> contexts;
  std::istringstream lines(*text);
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      contexts.push_back(context_of(json::parse(line), number));
    } catch (const std::exception& e) {
      return fail(errc::invalid_argument, file.string() + ":" + std::to_string(number) + ": " + e.what() +
                                              "; a line is {\"id\",\"task\",\"documents\",\"questions\"}");
    }
  }
  if (contexts.empty()) return fail(errc::invalid_argument, file.string() + " holds no context");
  return contexts;
}

}  // namespace weft::launcher::study
