import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * Checks Waitroom-Signature: that a request was let in by a gateway that knows the key. Java 17, no dependencies.
 *
 * <p>The room is the one that the route belongs to, written in your code, not what the request says.
 */
public final class WaitroomSignature {
  private static final long TOLERANCE_S = 300;
  private static final Pattern SIGNATURE = Pattern.compile("t=([0-9]{1,15}),v1=([0-9a-f]{64})");
  // A subject is a UUID. Without this, room "a" and subject "b.c" would be signed alike with room "a.b" and subject "c".
  private static final Pattern SUBJECT = Pattern.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}");

  /** Whether the signature is of this room and subject and not older, or newer, than five minutes. */
  public static boolean isValid(byte[] key, String signature, String room, String subject, long nowS)
      throws GeneralSecurityException {
    if (signature == null || subject == null) {
      return false;
    }
    Matcher found = SIGNATURE.matcher(signature);
    if (!found.matches() || !SUBJECT.matcher(subject).matches()) {
      return false;
    }
    if (Math.abs(nowS - Long.parseLong(found.group(1))) > TOLERANCE_S) {
      return false;
    }
    Mac mac = Mac.getInstance("HmacSHA256");
    mac.init(new SecretKeySpec(key, "HmacSHA256"));
    String signed = found.group(1) + "." + room + "." + subject;
    byte[] expected = mac.doFinal(signed.getBytes(StandardCharsets.UTF_8));
    return MessageDigest.isEqual(expected, HexFormat.of().parseHex(found.group(2)));
  }

  /** java WaitroomSignature.java vectors.json: what this checker says of each case. The file has one case a line. */
  public static void main(String[] arguments) throws Exception {
    Pattern member = Pattern.compile("\"(\\w+)\": (?:\"([^\"]*)\"|([0-9]+))");
    byte[] key = null;
    for (String line : Files.readAllLines(Path.of(arguments[0]))) {
      Map<String, String> members = new HashMap<>();
      for (Matcher found = member.matcher(line); found.find(); ) {
        members.put(found.group(1), found.group(2) != null ? found.group(2) : found.group(3));
      }
      if (members.containsKey("key_hex")) {
        key = HexFormat.of().parseHex(members.get("key_hex"));
      } else if (members.containsKey("name")) {
        long nowS = Long.parseLong(members.get("now_s"));
        boolean verdict =
            isValid(key, members.get("signature"), members.get("room"), members.get("subject"), nowS);
        System.out.println(members.get("name") + "\t" + verdict);
      }
    }
  }
}
