#include "source_documents.hpp"

#include <weft/schema/rpc_types.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <iterator>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

error cannot_read(const fs::path& file) {
  return {errc::io, file.string() + " cannot be read; check that it is a file and yours to read"};
}

void text_document(const fs::path& file, const std::function<step(source_document)>& take,
                   const std::function<void(const error&)>& refuse) {
  std::ifstream in(file, std::ios::binary);
  std::error_code failed;
  const auto size = fs::file_size(file, failed);
  if (!in || failed) return refuse(cannot_read(file));
  if (size > schema::limits::text_bytes)
    return refuse({errc::invalid_argument,
                   file.string() + " has " + std::to_string(size) + " bytes, more than the " +
                       std::to_string(schema::limits::text_bytes) + " of a document; split it into several"});
  std::string text(std::istreambuf_iterator<char>(in), {});
  if (in.bad()) return refuse(cannot_read(file));
  if (text.empty())
    return refuse({errc::invalid_argument, file.string() + " is empty; give it at least one byte of text"});
  take({file.filename().string(), std::move(text), size});
}

void line_documents(const fs::path& file, const std::function<step(source_document)>& take,
                    const std::function<void(const error&)>& refuse) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return refuse(cannot_read(file));
  std::uint64_t number = 0;
  std::uint64_t documents = 0;
  std::uint64_t bytes = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    bytes += line.size() + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    ++documents;
    auto document = parse_document_line(line, file.string() + ":" + std::to_string(number));
    if (!document) {
      refuse(document.error());
      continue;
    }
    document->bytes_read = bytes;
    if (take(std::move(*document)) == step::stop) return;
  }
  if (in.bad()) return refuse(cannot_read(file));
  if (documents == 0)
    refuse({errc::invalid_argument, file.string() + " is empty; write one {\"id\", \"text\"} a line"});
}

std::string id_text(const json& id) {
  return id.is_string() ? id.get<std::string>() : id.dump();
}

}  // namespace

result<source_document> parse_document_line(const std::string& line, const std::string& where) {
  const auto value = json::parse(line, nullptr, false);
  if (value.is_discarded())
    return fail(errc::invalid_argument,
                where + ": not a JSON line in UTF-8; write {\"id\": .., \"text\": ..}");
  if (!value.is_object() || !value.contains("text") || !value["text"].is_string())
    return fail(errc::invalid_argument, where + ": no \"text\"; write {\"id\": .., \"text\": ..}");
  source_document document;
  document.text = value["text"].get<std::string>();
  if (document.text.empty())
    return fail(errc::invalid_argument, where + ": the text is empty; give it at least one character");
  document.name = value.contains("id") ? id_text(value["id"]) : where;
  return document;
}

void for_each_document(const fs::path& file, const std::function<step(source_document)>& take,
                       const std::function<void(const error&)>& refuse) {
  if (file.extension() == ".jsonl") return line_documents(file, take, refuse);
  text_document(file, take, refuse);
}

}  // namespace weft::launcher
