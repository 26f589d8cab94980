/** A group of commands of the driver; `null` from run means "not one of mine". */
interface Commands {
    Object run(String command, Arguments arguments) throws Exception;
}
