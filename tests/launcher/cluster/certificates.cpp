#include "certificates.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

namespace weft::testing {

namespace {

constexpr auto commands = R"(
set -e
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
  -subj "/CN=weft authority" -keyout authority.key -out authority.crt
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
  -subj "/CN=weft node" -keyout node.key -out node.csr
openssl x509 -req -in node.csr -CA authority.crt -CAkey authority.key -CAcreateserial \
  -days 825 -out node.crt
)";

}  // namespace

std::string certificate_files::section() const {
  return "\n[tls]\ncertificate = \"" + certificate.string() + "\"\nkey = \"" + key.string() +
         "\"\nauthority = \"" + authority.string() + "\"\n";
}

certificate_files make_certificates(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const std::string script = "exec 2> openssl.log; " + std::string(commands);
  REQUIRE(std::system(("cd '" + folder.string() + "' && sh -c '" + script + "'").c_str()) == 0);
  return {folder / "node.crt", folder / "node.key", folder / "authority.crt"};
}

}  // namespace weft::testing
