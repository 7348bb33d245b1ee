#include <weft/actors/tls_check.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include <memory>
#include <string>

namespace weft::actors {

namespace {

template <auto free_it>
struct freed_by {
  template <class T>
  void operator()(T* handle) const {
    free_it(handle);
  }
};

using bio = std::unique_ptr<BIO, freed_by<BIO_free_all>>;
using certificate = std::unique_ptr<X509, freed_by<X509_free>>;
using private_key = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;
using chain =
    std::unique_ptr<STACK_OF(X509), decltype([](STACK_OF(X509) * all) { sk_X509_pop_free(all, X509_free); })>;
using store = std::unique_ptr<X509_STORE, freed_by<X509_STORE_free>>;
using verification = std::unique_ptr<X509_STORE_CTX, freed_by<X509_STORE_CTX_free>>;

// Nothing of what goes wrong here may be found by whoever uses OpenSSL next in this thread.
struct forgotten_errors {
  forgotten_errors() = default;
  forgotten_errors(const forgotten_errors&) = delete;
  forgotten_errors& operator=(const forgotten_errors&) = delete;
  ~forgotten_errors() { ERR_clear_error(); }
};

tl::unexpected<error> refuse(const char* what, const std::filesystem::path& file, const std::string& why) {
  return fail(errc::invalid_argument, std::string("tls: `") + what + "` " + file.string() + " " + why);
}

bio open_for_reading(const std::filesystem::path& file) {
  return bio{BIO_new_file(file.c_str(), "r")};
}

// Nobody is there to type a passphrase.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

// What follows the first certificate of a file: those between it and the authority.
chain read_chain(BIO* file) {
  chain between{sk_X509_new_null()};
  while (X509* const next = PEM_read_bio_X509(file, nullptr, nullptr, nullptr))
    sk_X509_push(between.get(), next);
  return between;
}

result<void> verify(X509* own, STACK_OF(X509) * between, const tls_files& files) {
  const store trusted{X509_STORE_new()};
  if (!trusted || X509_STORE_load_file(trusted.get(), files.authority.c_str()) != 1) {
    return refuse("authority", files.authority, "has no certificate in PEM form");
  }
  const verification check{X509_STORE_CTX_new()};
  if (!check || X509_STORE_CTX_init(check.get(), trusted.get(), own, between) != 1) {
    return fail(errc::internal, "tls: OpenSSL cannot begin to verify a certificate");
  }
  if (X509_verify_cert(check.get()) == 1) return {};
  const char* const reason = X509_verify_cert_error_string(X509_STORE_CTX_get_error(check.get()));
  return refuse("certificate", files.certificate,
                "is not a valid one of the authority " + files.authority.string() + ": " + reason +
                    "; sign one with the authority's key");
}

}  // namespace

result<void> check_tls_files(const tls_files& files) {
  if (files.empty()) return {};
  const forgotten_errors none_left;
  const auto certificate_file = open_for_reading(files.certificate);
  const certificate own{
      certificate_file ? PEM_read_bio_X509(certificate_file.get(), nullptr, nullptr, nullptr) : nullptr};
  if (!own) return refuse("certificate", files.certificate, "has no certificate in PEM form");
  const auto key_file = open_for_reading(files.key);
  const private_key key{key_file ? PEM_read_bio_PrivateKey(key_file.get(), nullptr, no_passphrase, nullptr)
                                 : nullptr};
  if (!key) return refuse("key", files.key, "has no private key in PEM form without a passphrase");
  if (X509_check_private_key(own.get(), key.get()) != 1) {
    return refuse("key", files.key, "is not the key of the certificate " + files.certificate.string());
  }
  return verify(own.get(), read_chain(certificate_file.get()).get(), files);
}

}  // namespace weft::actors
