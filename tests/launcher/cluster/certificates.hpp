// Certificates for a test, made by the commands of docs/cluster-file.md.
#pragma once

#include <filesystem>
#include <string>

namespace weft::testing {

struct certificate_files {
  std::filesystem::path certificate;
  std::filesystem::path key;
  std::filesystem::path authority;

  // The `[tls]` section that names them.
  std::string section() const;
};

// A new authority and a node's certificate of it, in `folder`, which is made.
certificate_files make_certificates(const std::filesystem::path& folder);

}  // namespace weft::testing
