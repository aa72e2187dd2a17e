#include "mail/convert.h"

#include "base/text.h"
#include "mail/mime.h"
#include "tests/support/cpu_time.h"

#include <catch2/catch.hpp>

#include <vector>

namespace postrider::mail {
namespace {

using namespace std::string_literals;

std::string converted(std::string_view content, bool binary = false) {
  const auto result = to_seven_bit(content, binary);
  if (!result) {
    CHECK(result.error().code() == make_error_code(Errc::unsupported));
    return "unsupported";
  }
  return *result;
}

const std::string kUmlauts =
    "gr\xc3\xbc\xc3\x9f"
    "e from the far north of here\r\n";

TEST_CASE("what is 7-bit already is not touched", "[mail][convert]") {
  for (const auto* content :
       {"", "Subject: a\r\n\r\nb\r\n", "a\r\n", "\r\n",
        "Content-Type: multipart/mixed; boundary=x\r\n\r\n",
        "Content-Type: multipart/mixed; boundary=x\r\n\r\npreamble\r\n--x\r\n\r\na\r\n--x\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\nb\r\n--x--\r\nepilogue\r\n",
        "Content-Type: multipart/signed; boundary=x\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "--x\r\nContent-Transfer-Encoding: 8bit\r\n\r\na\r\n--x--\r\n"})
    CHECK(converted(content) == content);
}

TEST_CASE("a text of 8 bits becomes quoted-printable", "[mail][convert]") {
  CHECK(converted("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                  "Content-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\n" +
                  kUmlauts + "a = b \r\n") ==
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nSubject: x\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe from the far north of "
        "here\r\na =3D b=20\r\n");
}

TEST_CASE("a text without MIME gets what it needs (RFC 1428)", "[mail][convert]") {
  CHECK(converted("Subject: x\r\n\r\n" + kUmlauts) ==
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe from the far north of "
        "here\r\n");
}

TEST_CASE("base64 is taken when it is shorter", "[mail][convert]") {
  std::string bytes;
  for (int i = 0; i < 100; ++i)
    bytes.append("\xc3\xbc");
  const auto result = converted("Content-Type: text/plain; charset=utf-8\r\n\r\n" + bytes + "\r\n");
  CHECK(result.find("Content-Transfer-Encoding: base64\r\n\r\nw7zDvMO8") != std::string::npos);
  CHECK(is_ascii(result));
  CHECK(result.ends_with("\r\n"));
}

TEST_CASE("only the parts that need it change", "[mail][convert]") {
  CHECK(converted("Content-Type: multipart/mixed;\r\n\tboundary=\"x y\"\r\n"
                  "Content-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n"
                  "--x y\r\n\r\na\r\n"
                  "--x y  \r\nContent-Type: text/plain; charset=utf-8\r\n"
                  "Content-Transfer-Encoding: 8bit\r\n\r\n" +
                  kUmlauts +
                  "--x y\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"
                  "--x y--\r\nepilogue\r\n") ==
        "Content-Type: multipart/mixed;\r\n\tboundary=\"x y\"\r\n"
        "Content-Transfer-Encoding: 7bit\r\n\r\npreamble\r\n"
        "--x y\r\n\r\na\r\n"
        "--x y  \r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe from the far north of "
        "here\r\n"
        "--x y\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"
        "--x y--\r\nepilogue\r\n");
}

TEST_CASE("messages within messages are converted within", "[mail][convert]") {
  const auto result = converted(
      "Content-Type: multipart/digest; boundary=x\r\n\r\n"
      "--x\r\n\r\nSubject: a\r\nMIME-Version: 1.0\r\n\r\n" +
      kUmlauts +
      "--x\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
      "Subject: b\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" +
      kUmlauts + "--x--\r\n");
  CHECK(result ==
        "Content-Type: multipart/digest; boundary=x\r\n\r\n"
        "--x\r\n\r\nSubject: a\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=unknown-8bit\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe from the far north of "
        "here\r\n"
        "--x\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        "Subject: b\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe from the far north of "
        "here\r\n--x--\r\n");
}

TEST_CASE("what cannot be converted without loss is not", "[mail][convert]") {
  struct Case {
    std::string name;
    std::string content;
  };
  const std::vector<Case> cases = {
      {"signed",
       "Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\n" + kUmlauts + "--x--\r\n"},
      {"within signed",
       "Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n"
       "Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n" +
           kUmlauts + "--y--\r\n--x--\r\n"},
      {"another composite", "Content-Type: message/partial; id=x\r\n\r\n" + kUmlauts},
      {"multipart without a boundary", "Content-Type: multipart/mixed\r\n\r\n" + kUmlauts},
      {"L18: a boundary of 71",
       "Content-Type: multipart/mixed; boundary=" + std::string(71, 'x') + "\r\n\r\n" + kUmlauts},
      {"encoded already", "Content-Transfer-Encoding: base64\r\n\r\n" + kUmlauts},
      {"an encoding of its own", "Content-Transfer-Encoding: x-uuencode\r\n\r\n" + kUmlauts},
      {"M12: two types", "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n" + kUmlauts},
      {"M12: two encodings",
       "Content-Transfer-Encoding: 8bit\r\n"
       "Content-Transfer-Encoding: 8bit\r\n\r\n" +
           kUmlauts},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(converted(c.content) == "unsupported");
    }
}

TEST_CASE("8-bit text that has no other form stays, and the rest is converted", "[mail][convert]") {
  const std::string mixed = "Content-Type: multipart/mixed; boundary=x\r\n\r\n";
  for (const std::string& content :
       {"Subject: \xc3\xbc\r\n\r\na\r\n"s,
        mixed + "--x\r\nContent-Type: text/plain; name=\xc3\xbc\r\n\r\na\r\n--x--\r\n",
        mixed + kUmlauts + "--x\r\n\r\na\r\n--x--\r\n",
        mixed + "--x\r\n\r\na\r\n--x--\r\n" + kUmlauts}) {
    CHECK(converted(content) == content);
    CHECK(converted(content, true) == content);
  }
  const auto both = converted("Subject: \xc3\xbc\r\n\r\n" + kUmlauts);
  CHECK(both.starts_with("Subject: \xc3\xbc\r\n"));
  CHECK(both.ends_with("\r\n\r\ngr=C3=BC=C3=9Fe from the far north of here\r\n"));
  CHECK(converted("Subject: a\nb\r\n\r\na\r\n", true) == "unsupported");
  CHECK(converted(mixed + "a\nb\r\n--x\r\n\r\na\r\n--x--\r\n", true) == "unsupported");
}

TEST_CASE("binary content ends where it ended", "[mail][convert]") {
  const std::string head = "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n";
  const std::string binary = "Content-Transfer-Encoding: binary\r\n\r\n";
  const std::string base64 = "Content-Transfer-Encoding: base64\r\n\r\n";
  CHECK(converted(head + binary + "abc", true) == head + base64 + "YWJj\r\n");
  CHECK(converted(head + binary + "a\nb\n", true) == head + base64 + "YQpiCg==\r\n");
  CHECK(converted(head + "\r\n" + "abc", true) == head + base64 + "YWJj\r\n");
}

TEST_CASE("the octets at the end of binary content are the same behind the conversion",
          "[mail][convert]") {
  const std::string head = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
  const std::string binary = "Content-Transfer-Encoding: binary\r\n\r\n";
  // The line end before a delimiter is the delimiter's.
  const auto inner = converted(head + "--b\r\n" + binary + "a\nb\n\r\n--b--", true);
  CHECK(inner ==
        head + "--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=0Ab=0A\r\n--b--\r\n");
  // A part that is not closed ends where the content does.
  CHECK(converted(head + "--b\r\n" + binary + "abc", true) ==
        head + "--b\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n");
}

TEST_CASE("why content cannot be converted is said in words for its sender", "[mail][convert]") {
  const auto signed_part =
      "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n"
      "Content-Transfer-Encoding: binary\r\n\r\na\nb\r\n--s--\r\n"s;
  CHECK(to_seven_bit(signed_part, true).error().step() == "signed part");
  CHECK(to_seven_bit("Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n\xfc\r\n",
                     false)
            .error()
            .step() == "8-bit text in a part that is encoded already");
}

TEST_CASE("where the header ends is the same for all", "[mail][convert]") {
  const std::string fields =
      "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n";
  const std::string part = "--x\r\n\r\n" + kUmlauts + "--x--\r\n";
  // A line of an mbox is in the header section; what only has a colon ends it.
  const auto mbox = converted("From a@b Mon Nov 23 10:00:00 2026\r\n" + fields + part);
  CHECK(mbox.find("MIME-Version", mbox.find("MIME-Version") + 1) == mbox.npos);
  CHECK(mbox.find("\r\n--x\r\nContent-Transfer-Encoding: ") != mbox.npos);
  for (const std::string line : {"X-G r: y\r\n", ": y\r\n"}) {
    const auto out = converted(line + fields + part);
    CHECK(out.find("\r\n\r\n" + line) != out.npos);
    CHECK(out.ends_with("--x--\r\n"));
  }
}

TEST_CASE("L18: a boundary that begins another is told apart", "[mail][convert]") {
  const auto result = converted(
      "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
      "Content-Type: multipart/mixed; boundary=ab\r\n\r\n--ab\r\n\r\n" +
      kUmlauts + "--ab--\r\n--a\r\n\r\nb\r\n--a--\r\n");
  CHECK(result ==
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
        "Content-Type: multipart/mixed; boundary=ab\r\n\r\n--ab\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe from the far north of "
        "here\r\n"
        "--ab--\r\n--a\r\n\r\nb\r\n--a--\r\n");
}

TEST_CASE("a multipart that is not closed is converted as far as it goes", "[mail][convert]") {
  CHECK(converted("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\n" + kUmlauts) ==
        "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe from the far north of "
        "here\r\n");
}

TEST_CASE("binary content loses its bare line ends and long lines", "[mail][convert]") {
  const auto header =
      "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
      "Content-Transfer-Encoding: binary\r\n\r\n"s;
  CHECK(converted(header + "a\rb\nc\0d", true).find("\r\n\r\na=0Db=0Acd") == std::string::npos);
  CHECK(converted(header + "a\rb\nc plain text\r\n", true) ==
        "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\na=0Db=0Ac plain text\r\n");
  CHECK(converted(header + std::string(2000, 'x') + "\r\n", true).find("=\r\n") !=
        std::string::npos);
  CHECK(converted(header + "text\r\n", true) ==
        "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
        "Content-Transfer-Encoding: 7bit\r\n\r\ntext\r\n");
}

TEST_CASE("quoted-printable lines are at most 76 long", "[mail][convert]") {
  for (std::size_t length = 70; length < 240; ++length)
    for (const auto* tail : {"", " ", "\xfc", "\xfc ", "="}) {
      std::string out;
      mime::append_quoted_printable(std::string(length, 'x') + tail + "\r\n", out);
      std::size_t begin = 0;
      for (auto end = out.find("\r\n"); end != std::string::npos; end = out.find("\r\n", begin)) {
        CHECK(end - begin <= 76);
        begin = end + 2;
      }
    }
}

TEST_CASE("base64 is that of RFC 4648", "[mail][convert]") {
  const auto encoded = [](std::string_view bytes) {
    std::string out;
    mime::append_base64(bytes, out);
    return out;
  };
  CHECK(encoded("").empty());
  CHECK(encoded("f") == "Zg==");
  CHECK(encoded("fo") == "Zm8=");
  CHECK(encoded("foo") == "Zm9v");
  CHECK(encoded("foobar") == "Zm9vYmFy");
  CHECK(encoded(std::string(58, 'x')).find("\r\n") == 76);
  CHECK(encoded(std::string(57, 'x')).size() == 76);
}

std::string nested(std::size_t depth, const std::string& inside) {
  std::string content;
  for (std::size_t i = 0; i < depth; ++i)
    content += "Content-Type: multipart/mixed; boundary=b" + std::to_string(i) + "\r\n\r\n--b" +
               std::to_string(i) + "\r\n";
  content += "\r\n" + inside;
  for (std::size_t i = depth; i-- > 0;)
    content += "--b" + std::to_string(i) + "--\r\n";
  return content;
}

TEST_CASE("L18: nesting is capped, siblings are not", "[mail][convert]") {
  CHECK(is_ascii(converted(nested(99, kUmlauts))));
  CHECK(converted(nested(99, kUmlauts)) != "unsupported");
  CHECK(converted(nested(1000, kUmlauts)) == "unsupported");
  std::string messages;
  for (int i = 0; i < 1000; ++i)
    messages += "Content-Type: message/rfc822\r\n\r\n";
  CHECK(converted(messages + "\r\n" + kUmlauts) == "unsupported");
  std::string siblings = "Content-Type: multipart/mixed; boundary=x\r\n\r\n";
  for (int i = 0; i < 1000; ++i)
    siblings += "--x\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\n" + kUmlauts;
  CHECK(converted(siblings + "--x--\r\n") != "unsupported");
}

TEST_CASE("L18: a conversion is never many times the content", "[mail][convert]") {
  const auto message = [](int parts, const std::string& body) {
    std::string text = "Content-Type: multipart/mixed; boundary=x\r\n\r\n";
    for (int i = 0; i < parts; ++i)
      text += "--x\r\n\r\n" + body + "\r\n";
    return text + "--x--\r\n";
  };
  CHECK(to_seven_bit(message(100, "\xC3\xBC"), false));
  const std::string useful(1000, '\xBC');
  CHECK(to_seven_bit(message(1000, useful), false));
  CHECK_FALSE(to_seven_bit(message(20000, "\xC3\xBC"), false));
}

TEST_CASE("L18, L19: hostile structures take linear time", "[mail][convert]") {
  const auto seconds = [](const std::string& content) {
    return test::cpu_seconds([&] { (void)to_seven_bit(content, false); });
  };
  const auto repeated = [](const std::string& unit, std::size_t size) {
    std::string text;
    while (text.size() < size)
      text += unit;
    return text;
  };
  const std::string multi = "Content-Type: multipart/mixed; boundary=x\r\n\r\n";
  const std::vector<std::pair<std::string, std::string>> shapes = {
      {multi, "--x\r\n\r\n\xfc\r\n"},
      {multi, "--x\r\n"},
      {nested(99, ""), "--b9\r\n"},
      {"Content-Type: (", "("},
      {"Content-Type: text/plain", "; a=\"\\\"\""},
      {"", "A: b\r\n"},
      {"A: b\r\n", " c\r\n"},
      {"\r\n", "\xfc"},
      {"\r\n\xfc", "\n"},
  };
  for (const auto& [start, unit] : shapes) {
    const auto once = seconds(start + repeated(unit, 250000));
    const auto eightfold = seconds(start + repeated(unit, 2000000));
    INFO(Catch::StringMaker<std::string>::convert(unit));
    CHECK(eightfold < 40 * once + 0.2);  // quadratic would be 64 times, and seconds
  }
}

}  // namespace
}  // namespace postrider::mail
