"""A mailer as a program: smtplib, one message after the other, nothing ever again.

``python mailer.py HOST PORT USER PASSWORD CA [CONTROL]``: with a control port it moves the clock by 12 s after each.
"""

import smtplib
import ssl
import sys
import urllib.request


def main(host: str, port: str, user: str, password: str, ca: str, control: str = "") -> None:
    with smtplib.SMTP(host, int(port), "client.example", timeout=20) as client:
        client.starttls(context=ssl.create_default_context(cafile=ca))
        client.login(user, password)
        for number in range(6):
            text = f"From: <{user}>\r\nMessage-ID: <us-{number}@sendlab.example>\r\n\r\nhello\r\n"
            client.sendmail(user, ["to@them.example"], text)
            if control:
                urllib.request.urlopen(f"{control}/clock", f"seconds={12 * number + 12}".encode()).close()


if __name__ == "__main__":
    main(*sys.argv[1:])
