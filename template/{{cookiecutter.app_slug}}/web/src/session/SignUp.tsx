import { texts } from "../texts";
import { Section } from "../ui/Page";
import { SignInForm } from "./SignInForm";
import { useSession } from "./session";

/** How a guest gets an account and keeps what they have. */
export function SignUp({ hint }: { hint: string }) {
  const { config } = useSession();
  return (
    <Section title={texts.signIn.signUpTitle}>
      <p className="text-muted">{hint}</p>
      {config.firebase && <SignInForm config={config} />}
    </Section>
  );
}
