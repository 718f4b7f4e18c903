"""The JDK's HttpClient as it comes: it offers `Upgrade: h2c` with its requests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stages.http_stage import Stage, config, stage

JAVA = shutil.which("java")
PROGRAM = """
import java.net.URI; import java.net.http.*;
public class Asks {
  public static void main(String[] args) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    for (int i = 0; i < 2; i++) {
      HttpRequest order = HttpRequest.newBuilder(URI.create(args[0] + "/v1/images/generations"))
          .header("Authorization", "Bearer sk-local").header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString("{\\"prompt\\": \\"a red fox\\"}")).build();
      HttpResponse<String> answer = client.send(order, HttpResponse.BodyHandlers.ofString());
      System.out.println(answer.version() + " " + answer.statusCode());
    }
  }
}
"""


@pytest.mark.skipif(JAVA is None, reason="no JDK; test_connections.py sends the same bytes")
def test_a_plain_java_client_gets_its_pictures(tmp_path: Path) -> None:
    program = tmp_path / "Asks.java"
    program.write_text(PROGRAM)
    with stage(tmp_path, config()) as running:
        assert isinstance(running, Stage)
        command = [str(JAVA), "-XX:TieredStopAtLevel=1", program, running.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.stdout.split("\n")[:2] == ["HTTP_1_1 200"] * 2, done.stderr
        assert len(running.jobs()) == 2
