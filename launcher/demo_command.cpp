#include <weft/client/client.hpp>
#include <weft/launcher/byte_size.hpp>
#include <weft/launcher/shipped_files.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "demo_cluster.hpp"
#include "demo_report.hpp"
#include "local_model.hpp"
#include "question_sets.hpp"

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <set>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t most_answer_tokens = 48;

struct demo_options {
  fs::path model;
  fs::path documents;
  unsigned nodes = 4;
};

// The demo's job while its cluster runs: ingest every document once, ask every question.
class demo {
 public:
  demo(client::connection cluster, local_model model, std::vector<question_set> sets, fs::path documents,
       client::call_options how, std::ostream& progress)
      : cluster_(std::move(cluster)),
        model_(std::move(model)),
        sets_(std::move(sets)),
        documents_(std::move(documents)),
        how_(std::move(how)),
        progress_(progress) {}

  result<std::vector<demo_answer>> run() {
    if (auto done = ingest_by_name(); !done) return tl::unexpected(done.error());
    progress_ << std::endl;
    std::vector<demo_answer> answers;
    for (const auto& set : sets_) {
      for (const auto& question : set.questions) {
        auto answer = ask(set, question);
        if (!answer) return tl::unexpected(answer.error());
        print_answer(progress_, *answer);
        answers.push_back(std::move(*answer));
      }
    }
    print_summary(progress_, answers);
    return answers;
  }

 private:
  // By name, which is another order than the one they are asked in: no document lands where it was encoded.
  result<void> ingest_by_name() {
    std::set<std::string> names;
    for (const auto& set : sets_)
      names.insert(set.documents.begin(), set.documents.end());
    for (const auto& name : names) {
      if (auto done = ingest(name); !done) return done;
    }
    return {};
  }

  result<void> ingest(const std::string& name) {
    auto text = read_text_file(documents_ / name);
    if (!text) return tl::unexpected(text.error());
    client::ingest_request request;
    request.name = name;
    request.text = *text;
    const auto info = cluster_.ingest(request, {}, how_);
    if (!info) return tl::unexpected(info.error());
    progress_ << name << ": " << info->tokens << " tokens, " << info->blocks << " blocks, "
              << format_bytes(info->bytes) << " at";
    for (const auto& holder : info->holders)
      progress_ << ' ' << holder;
    progress_ << std::endl;
    texts_[name] = std::move(*text);
    ids_[name] = info->id;
    return {};
  }

  result<demo_answer> ask(const question_set& set, const asked_question& asked) {
    client::ask_request request;
    std::vector<std::string> texts;
    for (const auto& name : set.documents) {
      request.documents.push_back(ids_.at(name));
      texts.push_back(texts_.at(name));
    }
    request.question = asked.question;
    request.max_tokens = most_answer_tokens;
    request.stitch = "none";
    auto stitched = cluster_.ask(request, {}, how_);
    if (!stitched) return tl::unexpected(stitched.error());
    request.stitch = "full";
    auto recomputed = cluster_.ask(request, {}, how_);
    if (!recomputed) return tl::unexpected(recomputed.error());
    auto local = model_.answer(texts, asked.question, most_answer_tokens);
    if (!local) return tl::unexpected(local.error());
    return demo_answer{asked.question, asked.answer, std::move(*stitched), std::move(*recomputed),
                       std::move(*local)};
  }

  client::connection cluster_;
  local_model model_;
  std::vector<question_set> sets_;
  fs::path documents_;
  client::call_options how_;
  std::ostream& progress_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, id128> ids_;
};

// Fills in what comes with the program.
result<demo_options> complete(demo_options options) {
  if (options.model.empty()) {
    auto shipped = shipped_model_folder();
    if (!shipped) return tl::unexpected(shipped.error());
    options.model = *shipped;
  }
  if (options.documents.empty()) {
    auto shipped = shipped_documents_folder();
    if (!shipped) return tl::unexpected(shipped.error());
    options.documents = *shipped;
  }
  options.model = fs::absolute(options.model).lexically_normal();
  std::error_code ignored;
  if (!fs::is_regular_file(options.model / "config.json", ignored)) {
    return fail(errc::not_found, "no config.json in " + options.model.string() +
                                     "; --model takes a Hugging Face model folder");
  }
  return options;
}

result<std::vector<demo_answer>> run_demo(const demo_options& wished, const command_context& context,
                                          std::ostream& progress) {
  const auto options = complete(wished);
  if (!options) return tl::unexpected(options.error());
  auto sets = read_question_sets(options->documents);
  if (!sets) return tl::unexpected(sets.error());
  auto cluster = demo_cluster::start({options->nodes, options->model, context.verbose});
  if (!cluster) return tl::unexpected(cluster.error());
  const auto gateway = (*cluster)->wait_for_gateway();
  if (!gateway) return tl::unexpected(gateway.error());
  auto model = local_model::load(options->model);
  if (!model) return tl::unexpected(model.error());
  auto connection = client::connect(*gateway);
  if (!connection) return tl::unexpected(connection.error());
  progress << "a cluster of " << options->nodes << " processes is up; gateway at " << *gateway << "\n\n";
  client::call_options how;
  how.stop = (*cluster)->stop();
  return demo(std::move(*connection), std::move(*model), std::move(*sets), options->documents, how, progress)
      .run();
}

int run(const demo_options& options, const command_context& context) {
  const auto answers = run_demo(options, context, context.json ? std::cerr : std::cout);
  if (!answers) return answers.error().context.empty() ? exit_failed : report(answers.error());
  if (context.json) print_json(demo_document(*answers));
  if (!std::all_of(answers->begin(), answers->end(), same_as_local)) {
    return report(
        {errc::internal, "an answer differs from the one of a single process: this is a defect of weft"});
  }
  return exit_done;
}

}  // namespace

void add_demo_command(CLI::App& app, command_context& context) {
  auto options = std::make_shared<demo_options>();
  auto* command =
      add_command(app, "demo", "a whole cluster on this machine: ingest, questions, what moved where",
                  "weft demo --nodes 4", context);
  command->add_option("--model", options->model, "model folder (default: the one that comes with weft)");
  command->add_option("--nodes", options->nodes, "how many processes")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--documents", options->documents,
                      "folder of texts with a questions.json (default: the one that comes with weft)");
  on_run(command, context, [options, &context] { return run(*options, context); });
}

}  // namespace weft::launcher
