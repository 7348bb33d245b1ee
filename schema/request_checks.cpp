#include <weft/base/shortest_decimal.hpp>
#include <weft/schema/request_checks.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace weft::schema {
namespace {

result<void> refuse(std::string why) {
  return fail(errc::invalid_argument, std::move(why));
}

constexpr const char* long_text_remedy = "; ingest what is long as a document";

std::string larger_than(std::string_view what, std::uint64_t bytes, std::size_t limit) {
  return std::string(what) + " has " + std::to_string(bytes) + " bytes, more than the " +
         std::to_string(limit) + " that are taken";
}

result<void> check_ratio(std::optional<double> ratio) {
  if (ratio && !(*ratio > 0 && *ratio <= 1))
    return refuse("ratio " + shortest_decimal(*ratio) + " is not in (0, 1]; 0.25 keeps a quarter");
  return {};
}

result<void> check_bands(const std::vector<double>& bands) {
  if (bands.size() > limits::bands)
    return refuse(std::to_string(bands.size()) + " bands; at most " + std::to_string(limits::bands) +
                  " are cut");
  double before = 0;
  for (const double ratio : bands) {
    if (!(ratio > before && ratio <= 1)) return refuse("bands must ascend within (0, 1], such as 0.1,0.3,1");
    before = ratio;
  }
  return {};
}

result<void> check_codecs(const std::vector<std::string>& codecs) {
  if (codecs.size() > limits::bands)
    return refuse(std::to_string(codecs.size()) + " codecs; at most " + std::to_string(limits::bands) +
                  " bands are cut");
  for (const auto& name : codecs)
    if (name.size() > limits::name_bytes) return refuse("a codec's name is one of raw, int8, int4");
  return {};
}

result<void> check_name(std::string_view what, const std::string& name) {
  if (name.size() > limits::name_bytes) return refuse(larger_than(what, name.size(), limits::name_bytes));
  return {};
}

result<void> check_sampling(const ask_request& r) {
  if (r.max_tokens == 0 || r.max_tokens > limits::max_tokens)
    return refuse("max_tokens " + std::to_string(r.max_tokens) + " is not in 1 .. " +
                  std::to_string(limits::max_tokens));
  if (!std::isfinite(r.temperature) || r.temperature < 0)
    return refuse("temperature " + shortest_decimal(r.temperature) + " must be 0 (greedy) or more");
  if (!(r.top_p > 0 && r.top_p <= 1))
    return refuse("top_p " + shortest_decimal(r.top_p) + " is not in (0, 1]; 1 chooses among all tokens");
  return {};
}

result<void> check_judge(const ask_request& r) {
  if (auto ok = check_name("the name of who judges rows", r.judge); !ok) return ok;
  if (r.judge.empty() == !r.threshold.has_value()) {
    if (!r.threshold || std::abs(*r.threshold) <= limits::threshold) return {};
    return refuse("a threshold of " + shortest_decimal(*r.threshold) +
                  " is no logarithm of a score; thresholds lie between -1000 and 1000, -6 is a usual one");
  }
  return refuse(r.threshold
                    ? "a threshold belongs to a surrogate that judges rows; name kvzap_linear or kvzap_mlp"
                    : "`" + r.judge + "` judges rows by a threshold; give one, -6 is a usual one");
}

// Texts are read along with the rest of the request: all of them together are as large as one may be.
result<void> check_parts(const ask_request& r) {
  if (r.parts.empty()) return {};
  if (!r.documents.empty())
    return refuse("documents are in one list, or among the parts of the prompt, not in both");
  if (r.retrieve > 0)
    return refuse(
        "documents that are chosen have no places that a text could be put between; name the documents, or "
        "put "
        "the text into the question or the system text");
  if (r.parts.size() > limits::documents)
    return refuse("a prompt of " + std::to_string(r.parts.size()) + " documents and texts; at most " +
                  std::to_string(limits::documents) + " are taken: name fewer");
  std::size_t texts = 0;
  std::uint64_t bytes = 0;
  for (const auto& part : r.parts)
    if (const auto* text = std::get_if<std::string>(&part)) {
      ++texts;
      bytes += text->size();
      if (text->empty())
        return refuse("text " + std::to_string(texts) + " of the prompt is empty; leave it out");
    }
  if (bytes <= limits::prompt_bytes) return {};
  return refuse(larger_than(texts == 1 ? "the text" : "all texts together", bytes, limits::prompt_bytes) +
                long_text_remedy);
}

}  // namespace

result<void> check_ingest(const ingest_request& r, std::uint64_t text_bytes) {
  const std::string document = r.name.empty() ? "the document" : "document '" + r.name.substr(0, 200) + "'";
  if (text_bytes == 0) return refuse(document + " is empty; give it at least one byte of text");
  if (text_bytes > limits::text_bytes)
    return refuse(larger_than(document, text_bytes, limits::text_bytes) + "; split it into several");
  if (auto ok = check_name("the document's name", r.name); !ok) return ok;
  if (auto ok = check_name("the importance policy's name", r.importance); !ok) return ok;
  if (auto ok = check_bands(r.bands); !ok) return ok;
  if (auto ok = check_codecs(r.codecs); !ok) return ok;
  return check_ratio(r.ratio);
}

result<void> check_ask(const ask_request& r) {
  if (r.question.empty()) return refuse("the question is empty; ask something");
  if (r.question.size() > limits::prompt_bytes)
    return refuse(larger_than("the question", r.question.size(), limits::prompt_bytes) + long_text_remedy);
  if (r.system.size() > limits::prompt_bytes)
    return refuse(larger_than("the system text", r.system.size(), limits::prompt_bytes) + long_text_remedy);
  if (r.documents.size() > limits::documents)
    return refuse("a question over " + std::to_string(r.documents.size()) + " documents; at most " +
                  std::to_string(limits::documents) +
                  " are taken: name fewer, or let those that fit the question best be chosen");
  if (auto ok = check_name("the stitch policy's name", r.stitch); !ok) return ok;
  if (auto ok = check_name("the retrieval policy's name", r.retrieval); !ok) return ok;
  if (auto ok = check_name("the scale's name", r.scale); !ok) return ok;
  if (auto ok = check_judge(r); !ok) return ok;
  if (r.retrieve > limits::documents)
    return refuse("a choice of " + std::to_string(r.retrieve) + " documents; at most " +
                  std::to_string(limits::documents) + " are taken");
  if (r.retrieve > 0 && !r.documents.empty())
    return refuse("documents are either named or chosen; leave out the ids or the number to choose");
  if (auto ok = check_parts(r); !ok) return ok;
  if (auto ok = check_ratio(r.ratio); !ok) return ok;
  return check_sampling(r);
}

result<void> check_lookup(std::size_t keys) {
  if (keys > limits::keys)
    return refuse("a lookup of " + std::to_string(keys) + " keys; ask for at most " +
                  std::to_string(limits::keys) + " at once");
  return {};
}

result<void> check_put(const block_layout& layout, std::uint64_t block_bytes) {
  if (block_bytes == 0) return refuse("the block is empty");
  if (block_bytes > limits::block_bytes)
    return refuse(larger_than("the block", block_bytes, limits::block_bytes));
  if (layout.descriptor.size() > limits::layout_bytes)
    return refuse(
        larger_than("the block's layout descriptor", layout.descriptor.size(), limits::layout_bytes));
  return {};
}

}  // namespace weft::schema
