#include "tests/unit/dns/real_server.h"

#include "base/file.h"
#include "base/net/task.h"
#include "base/random.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

namespace postrider::dns {

namespace {

// For TCP and UDP, and below the ports that the kernel gives to connections: none of those takes it
// before the server does.
std::uint16_t free_port() {
  asio::io_context context;
  SystemRandom random;
  for (int i = 0; i < 1000; ++i) {
    const auto port = static_cast<std::uint16_t>(10000 + random.below(22000));
    const auto loopback = asio::ip::address_v4::loopback();
    boost::system::error_code taken;
    asio::ip::tcp::socket stream(context, asio::ip::tcp::v4());
    asio::ip::udp::socket datagrams(context, asio::ip::udp::v4());
    stream.bind({loopback, port}, taken);
    if (!taken)
      datagrams.bind({loopback, port}, taken);
    if (!taken)
      return port;
  }
  throw std::runtime_error("no port is free");
}

}  // namespace

std::string find_program(const std::string& name) {
  for (const char* folder : {"/usr/sbin/", "/usr/bin/", "/usr/local/sbin/", "/usr/local/bin/"})
    if (::access((folder + name).c_str(), X_OK) == 0)
      return folder + name;
  return {};
}

RealServer::RealServer() : port_(free_port()) {
  folder_ = (std::filesystem::temp_directory_path() / "dns-XXXXXX").string();
  if (::mkdtemp(folder_.data()) == nullptr)
    throw std::runtime_error("no temporary folder");
}

RealServer::~RealServer() {
  if (process_ > 0) {
    ::kill(process_, SIGTERM);
    ::waitpid(process_, nullptr, 0);
  }
  std::filesystem::remove_all(folder_);
}

void RealServer::write(const std::string& name, const std::string& text) const {
  replace_file(folder_ + "/" + name, text, 0644).value();
}

void RealServer::start(const std::vector<std::string>& command) {
  const std::string errors = folder_ + "/errors";
  std::vector<char*> arguments;
  for (const auto& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  process_ = ::fork();
  if (process_ < 0)
    throw std::runtime_error("no process");
  if (process_ > 0)
    return;
  const int out = ::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

bool RealServer::is_running() const {
  return ::waitpid(process_, nullptr, WNOHANG) == 0;
}

std::string RealServer::complaints() const {
  const auto text = read_file(folder_ + "/errors");
  return text ? *text : std::string();
}

void start_knot(RealServer& server, const Zones& zones, const Zones& signed_zones) {
  const std::string folder = "\"" + server.folder() + "\"\n";
  std::string conf = "server:\n  rundir: " + folder + "  listen: 127.0.0.1@" + server.port() +
                     "\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
                     "log:\n- target: stderr\n  any: warning\n"
                     "database:\n  storage: " +
                     folder + "template:\n- id: default\n  storage: " + folder +
                     "  zonefile-sync: -1\n  zonefile-load: whole\n  journal-content: none\n"
                     "zone:\n";
  for (const auto* list : {&zones, &signed_zones})
    for (const auto& [name, text] : *list) {
      conf += "- domain: " + name + "\n  file: " + name + ".zone\n";
      if (list == &signed_zones)
        conf += "  dnssec-signing: on\n";
      server.write(name + ".zone", text);
    }
  server.write("knot.conf", conf);
  server.start({find_program("knotd"), "-c", server.folder() + "/knot.conf"});
}

std::string delegation_signer(const RealServer& knot, const std::string& zone) {
  const std::string command =
      find_program("keymgr") + " -c " + knot.folder() + "/knot.conf " + zone + " ds 2>/dev/null";
  FILE* const out = ::popen(command.c_str(), "r");
  if (out == nullptr)
    throw std::runtime_error("no keymgr");
  char line[512] = {};
  std::string last;
  while (std::fgets(line, sizeof line, out) != nullptr)
    last = line;
  ::pclose(out);
  while (last.ends_with('\n'))
    last.pop_back();
  return last;
}

}  // namespace postrider::dns
